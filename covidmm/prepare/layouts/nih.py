"""NIH ChestX-ray14.

``RAW/images*/**/*.png``, ``RAW/Data_Entry_2017.csv`` (2017 or 2020 edition, plain or gzipped) and, where they
are there, the publisher's ``train_val_list.txt`` and ``test_list.txt``. With ``--boxes`` also ``BBox_List_2017.csv``:
984 boxes of eight findings on 880 images, all of them in the publisher's test list, which then counts for nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from covidmm.errors import DataError
from covidmm.prepare.box_values import FORMS, box_of, numbers, require_pixels
from covidmm.prepare.label_files import Table, count_others, find_files, join_files, read_rows
from covidmm.prepare.options import Options
from covidmm.prepare.samples import Issue, LabelledBox, LabelledFolder, Sample

DATA_ENTRY = (
    "Data_Entry_2017.csv",
    "Data_Entry_2017_v2020.csv",
    "Data_Entry_2017.csv.gz",
    "Data_Entry_2017_v2020.csv.gz",
)
LISTS = {"train_val": "train_val_list.txt", "test": "test_list.txt"}
BOXES = "BBox_List_2017.csv"
#: Its columns; the comma in the third one parts it into four.
_BOX_COLUMNS = ("Bbox [x", "y", "w", "h]")
#: Side in pixels of the publisher's images, on which they were drawn; smaller copies of these are common.
_DRAWN_ON = 1024
NO_FINDING = "No Finding"
# Frozen: a trained backbone's outputs follow this order.
FINDINGS = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Effusion",
    "Emphysema",
    "Fibrosis",
    "Hernia",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pleural_Thickening",
    "Pneumonia",
    "Pneumothorax",
    NO_FINDING,
)


# Those that have boxes; frozen, as above.
BOXED = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
)


class Entry(NamedTuple):
    """One row of the data entry table."""

    findings: tuple[str, ...]
    patient: str
    age: int | None
    sex: str | None
    view: str | None


def read_entries(path: Path) -> Table[Entry]:
    """Read ``Data_Entry_2017.csv``: file name -> findings and patient.

    Raises:
        DataError: the file cannot be read, or a column is missing.
    """
    table: Table[Entry] = Table(path.name)
    for line, row in read_rows(path, ("Image Index", "Finding Labels", "Patient ID")):
        name = row["Image Index"]
        findings = row["Finding Labels"].split("|")
        unknown = [finding for finding in findings if finding not in FINDINGS]
        with table.reading(name, line):
            if not name:
                raise ValueError("Image Index: is empty")
            if name.startswith("_"):
                # images are stored below the part before "_"; an empty one would make the path absolute
                raise ValueError("Image Index: begins with '_', expected <patient>_<number>.png")
            if name in table:
                raise ValueError("Image Index: a second row for this image, neither is used")
            if unknown:
                expected = ", ".join(FINDINGS)
                raise ValueError(f"Finding Labels: unknown finding {unknown[0]!r}, expected among {expected}")
            if NO_FINDING in findings and len(findings) > 1:
                raise ValueError(f"Finding Labels: {NO_FINDING!r} beside a finding")
            if not row["Patient ID"]:
                raise ValueError("Patient ID: is empty")
            sex = row.get("Patient Gender") or row.get("Patient Sex") or None
            age, view = _years(row.get("Patient Age", "")), row.get("View Position") or None
            # In the frozen order, each finding once.
            ordered = tuple(finding for finding in FINDINGS if finding in findings)
            table.rows[name] = Entry(ordered, row["Patient ID"], age, sex, view)
    return table


def read_lists(raw: Path) -> dict[str, str]:
    """Read the publisher's split: file name -> ``'train_val'`` or ``'test'``; empty where there is none.

    Raises:
        DataError: only one of the two lists is there, or they share a name.
    """
    present = {side: raw / name for side, name in LISTS.items() if (raw / name).exists()}
    sides: dict[str, str] = {}
    for side, name in LISTS.items():
        if present and side not in present:
            raise DataError(f"{raw / name}: missing, though {next(iter(present.values())).name} is there")
    for side, path in present.items():
        try:
            names = path.read_text(encoding="utf-8-sig").split()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: cannot be read: {error}") from error
        for name in names:
            if sides.setdefault(name, side) != side:
                raise DataError(f"{path}: {name!r} is in both lists")
    return sides


def read_boxes(path: Path) -> Table[tuple[LabelledBox, ...]]:
    """Read ``BBox_List_2017.csv``: file name -> boxes, in shares of the image.

    A bad row makes its image unusable.

    Raises:
        DataError: the file cannot be read, or a column is missing.
    """
    table: Table[tuple[LabelledBox, ...]] = Table(path.name)
    for line, row in read_rows(path, ("Image Index", "Finding Label", *_BOX_COLUMNS)):
        name, finding = row["Image Index"], row["Finding Label"]
        with table.reading(name, line):
            finding = "Infiltration" if finding == "Infiltrate" else finding  # as the table of findings calls it
            if not name:
                raise ValueError("Image Index: is empty")
            if finding not in BOXED:
                raise ValueError(f"Finding Label: unknown finding {finding!r}, expected among {', '.join(BOXED)}")
            values = numbers({column: row[column] for column in _BOX_COLUMNS})
            require_pixels(values)
            if name not in table.refused:
                shares = [value / _DRAWN_ON for value in values]
                box = LabelledBox(box_of(shares, FORMS[1]), BOXED.index(finding), shares=True)
                table.rows[name] = (*table.rows.get(name, ()), box)
    return table


def read_folder(raw: Path, options: Options) -> LabelledFolder:
    """Join the tables of a raw NIH folder with its files; with ``boxes`` only images that have some.

    Raises:
        DataError: a table is missing or malformed, a list is missing beside the other, or there is no PNG.
    """
    labelled = _read_labelled(raw)
    return _with_boxes(labelled, read_boxes(raw / BOXES), options.negatives) if options.boxes else labelled


def _with_boxes(labelled: LabelledFolder, boxes: Table[tuple[LabelledBox, ...]], negatives: bool) -> LabelledFolder:
    """The images that have boxes, and where wanted those without a finding; the publisher's lists count for nothing."""
    samples, left_out = {}, Counter()
    for image_id, sample in labelled.samples.items():
        own = boxes.rows.get(sample.source.name, ())
        classes = tuple(dict.fromkeys(BOXED[box.label] for box in own)) or (NO_FINDING,)
        if own or (negatives and sample.classes == (NO_FINDING,) and sample.source.name not in boxes.refused):
            samples[image_id] = replace(sample, boxes=own, classes=classes, label_file=boxes.name, official=None)
        elif sample.classes == (NO_FINDING,):
            left_out["without a finding (--negatives keeps them)"] += 1
        else:
            left_out["with findings that nobody drew boxes around"] += 1
    skipped = [*labelled.skipped, *boxes.issues]
    there = {sample.source.name for sample in labelled.samples.values()}
    skipped += [
        Issue(boxes.name, f"Image Index {name!r}", "no usable image of this name")
        for name in sorted(boxes.rows.keys() - there)
    ]
    return LabelledFolder(samples, skipped, (*BOXED, NO_FINDING), BOXED, left_out={**labelled.left_out, **left_out})


def _read_labelled(raw: Path) -> LabelledFolder:
    """All images with their findings."""
    table = next((raw / name for name in DATA_ENTRY if (raw / name).exists()), raw / DATA_ENTRY[0])
    entries = read_entries(table)
    sides = read_lists(raw)
    skipped = entries.issues
    others: list[Path] = []
    files = sorted(_find_images(raw, skipped, others), key=lambda path: (path.name, path.parts))

    def sample_of(path: Path, earlier: Sample | None) -> Sample | None:
        if path.name in entries.refused:
            return None  # its row is listed already
        if earlier:
            used = earlier.source.relative_to(raw)
            raise ValueError(f"Image Index: a second file of this name, {used} is used")
        if path.name not in entries:
            raise ValueError(f"Image Index: no row in {entries.name}")
        if sides and path.name not in sides:
            raise ValueError(f"Image Index: in neither {LISTS['train_val']} nor {LISTS['test']}")
        entry = entries.rows[path.name]
        return Sample(
            image_id=path.stem,
            source=path,
            file_name=f"{path.stem.partition('_')[0]}/{path.stem}.png",
            study_id=path.stem,
            classes=entry.findings,
            label_file=entries.name,
            patient=entry.patient,
            official=sides.get(path.name),
            extra={"labels": list(entry.findings), "age": entry.age, "sex": entry.sex, "view": entry.view},
        )

    samples = join_files(raw, files, sample_of, skipped)
    for name in sorted(entries.rows.keys() - {path.name for path in files}):
        skipped.append(Issue(entries.name, f"Image Index {name!r}", "no such file below images*/"))
    return LabelledFolder(samples, skipped, classes=FINDINGS, categories=FINDINGS, left_out=count_others(others))


def _find_images(raw: Path, skipped: list[Issue], others: list[Path]) -> list[Path]:
    folders = sorted(folder for folder in raw.glob("images*") if folder.is_dir())
    if not folders:
        raise DataError(f"{raw}: no folder images*/ in it")
    found: list[Path] = []
    empty: list[DataError] = []
    for folder in folders:
        unreadable: list[Issue] = []
        try:
            found += find_files(folder, ".png", unreadable, others)
        except DataError as error:
            empty.append(error)
        else:
            skipped += unreadable
    if not found:
        raise empty[0]
    return found


def _years(text: str) -> int | None:
    """Age in years from ``58`` (2020 edition) or ``058Y`` (2017: Y, M or D)."""
    match = re.fullmatch(r"(\d{1,3})([YMD]?)", text)
    if not match:
        return None
    return int(match[1]) // {"Y": 1, "": 1, "M": 12, "D": 365}[match[2]]
