"""Any CSV or Parquet file with named columns, a row for each box or each class of an image.

``RAW/**/*.csv`` (or ``.csv.gz``, ``.parquet``), the only one or ``--table``; pictures or DICOM, found by name or stem.
Columns are called as what they hold or named by ``--columns``: ``image``; a box as ``x1,y1,x2,y2``, ``x,y,w,h`` or
``cx,cy,w,h``; ``class``; ``patient``, ``study``, ``split``, ``crowd``, ``image_width`` and ``image_height``. A row
without a box is a label of the whole image; one without a class says that nothing is on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from covidmm.errors import ConfigError, DataError
from covidmm.prepare.box_values import FORMS, box_of, flag, numbers, require_pixels, require_shares
from covidmm.prepare.label_files import Table, read_rows
from covidmm.prepare.labelled_images import LabelledImage, LabelledImages, label_text, split_called
from covidmm.prepare.options import Options
from covidmm.prepare.samples import Box, LabelledBox, LabelledFolder

#: What the rows of one image must agree on.
_SHARED = ("patient", "study", "split", "image_height", "image_width")
_BOX_ROLES = tuple(dict.fromkeys(role for form in FORMS for role in form))
#: What a column may hold.
ROLES = ("image", "class", *_BOX_ROLES, "crowd", *_SHARED)


class _Row(NamedTuple):
    class_name: str
    box: Box | None
    crowd: bool


@dataclass
class _Rows:
    """The rows of an image."""

    line: int
    """Of the first."""
    shared: dict[str, str]
    rows: list[_Row] = field(default_factory=list)


def read_folder(raw: Path, options: Options) -> LabelledFolder:
    """Read a table and find its images. An image with a row that cannot be used is not used.

    Classes are in the order of the alphabet. Where no row has a box, they are labels of whole images, as NIH's. Where
    some have, a class without a box is refused if it has boxes elsewhere: its image would pass as one without.

    Raises:
        ConfigError: ``--columns`` cannot be understood.
        DataError: there is no table or several, it lacks a column, or two classes are called the same but for case.
    """
    named = _named(options.columns)
    path = _table_file(raw, options.table)
    found = LabelledImages(raw, options)
    table = _read(path, named, options.normalised)
    rows = [row for rows in table.rows.values() for row in rows.rows]
    every = {row.class_name for row in rows} - {""}
    boxed = {row.class_name for row in rows if row.box}
    for name in (*sorted(boxed), *sorted(every - boxed)):
        found.names.add(name, path.name)  # also those without boxes: none may differ by case alone
    found.skipped += table.issues
    found.refuse_called(table.refused, path.parent)
    for name, of_image in table.rows.items():
        with found.reading(path.name, f"line {of_image.line}, id {name!r}"):
            found.add(_image(name, of_image, path, found, boxed, options.normalised))
    return found.folder(found.names.names[: len(boxed or every)])


def _table_file(raw: Path, name: str | None) -> Path:
    """The table: of this name below RAW, or the only one."""
    if name is not None:
        return raw / name
    endings = (".csv", ".csv.gz", ".parquet")
    files = sorted(path for path in raw.rglob("*") if path.name.lower().endswith(endings) and path.name[0] != ".")
    if not files:
        raise DataError(f"{raw}: no .csv or .parquet file in it")
    if len(files) > 1:
        names = ", ".join(path.relative_to(raw).as_posix() for path in files[:3])
        raise DataError(f"{raw}: several tables, {names}; name one by --table")
    return files[0]


def _named(text: str | None) -> dict[str, str]:
    """``--columns``: what a column holds -> its name."""
    columns: dict[str, str] = {}
    for part in text.split(",") if text else ():
        role, _, name = (piece.strip() for piece in part.partition("="))
        if not name:
            raise ConfigError(f"--columns: expected what=column, as in image=image_id, got {part!r}")
        if role not in ROLES:
            raise ConfigError(f"--columns: unknown {role!r}, expected one of {', '.join(ROLES)}")
        if role in columns:
            raise ConfigError(f"--columns: {role!r} is named twice")
        columns[role] = name
    return columns


def _columns(path: Path, header: Iterable[str], named: Mapping[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """All columns by what they hold, and the form of the boxes; empty where no column has any."""
    columns = {name: name for name in header if name in ROLES and name not in named.values()} | named
    if "class" not in columns:
        raise DataError(f"{path}: has no column 'class', only {list(header)}; name it by --columns class=...")
    whole = [form for form in FORMS if set(form) <= set(columns)]
    given = [role for role in _BOX_ROLES if role in columns]
    if given and not whole:
        expected = ", or ".join(map(",".join, FORMS))
        raise DataError(f"{path}: has {','.join(given)}, which is no whole box; expected {expected}")
    return columns, max(whole, key=lambda form: len(set(form) & set(named)), default=())


def _read(path: Path, named: Mapping[str, str], normalised: bool) -> Table[_Rows]:
    """The rows of each image, by the name that the table gives it."""
    table: Table[_Rows] = Table(path.name)
    columns: dict[str, str] = {}
    form: tuple[str, ...] = ()
    for line, row in read_rows(path, [named.get("image", "image"), *named.values()], whole=True):
        if not columns:
            columns, form = _columns(path, row, named)
        values = {role: row[column] for role, column in columns.items()}
        with table.reading(name := values["image"], line):
            if not name:
                raise ValueError("image: is empty")
            one = _row(values, form, normalised)
            shared = {role: values.get(role, "") for role in _SHARED}
            if name in table.refused:
                continue
            rows = table.rows.setdefault(name, _Rows(line, shared))
            for role, text in shared.items():
                if rows.shared[role] != text:
                    raise ValueError(f"{role}: {text!r} contradicts {rows.shared[role]!r} in line {rows.line}")
            rows.rows.append(one)
    if not columns:
        raise DataError(f"{path}: has no row")
    return table


def _row(values: Mapping[str, str], form: tuple[str, ...], normalised: bool) -> _Row:
    """A row, its columns called by what they hold."""
    crowd = flag("crowd", values.get("crowd", ""))
    texts = {role: values[role] for role in form}
    class_name = " ".join(values["class"].split())
    if not any(texts.values()):
        return _Row(class_name, None, crowd)
    if not class_name:
        raise ValueError("class: is empty, though the row has a box")
    found = numbers(texts)
    (require_shares if normalised else require_pixels)(found)
    return _Row(class_name, box_of(found, form), crowd)


def _image(
    name: str, rows: _Rows, path: Path, found: LabelledImages, boxed: set[str], normalised: bool
) -> LabelledImage:
    """An image with its labels."""
    source = found.files.find(name, path.parent)
    own = dict.fromkeys(row.class_name for row in rows.rows if row.class_name and not row.box)
    if unboxed := [one for one in own if one in boxed]:
        found.refuse(source)
        raise ValueError(f"class: {unboxed[0]!r} has boxes in other rows, and none in one of this image")
    sides = [rows.shared[side] for side in ("image_height", "image_width")]
    size = numbers({"image_height": sides[0], "image_width": sides[1]}) if any(sides) else None
    split = split_called(rows.shared["split"])
    if rows.shared["split"] and not split:
        raise ValueError(f"split: expected train, val, test or trainval, got {rows.shared['split']!r}")
    return LabelledImage(
        source,
        path.name,
        [
            LabelledBox(row.box, found.names.index(row.class_name), row.crowd, shares=normalised)
            for row in rows.rows
            if row.box
        ],
        tuple(own),
        size and (int(size[0]), int(size[1])),
        label_text(rows.shared["patient"]),
        label_text(rows.shared["study"]),
        split,
        {"labels": list(own)} if own and not boxed else {},
    )
