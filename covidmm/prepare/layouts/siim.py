"""Reads the raw SIIM-FISABIO-RSNA layout, as Kaggle hands it out.

``RAW/train/<study>/<series>/<image>.dcm``, ``RAW/train_image_level.csv``, ``RAW/train_study_level.csv``.
"""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from covidmm.findings import STUDY_CLASSES
from covidmm.prepare.label_files import Table, find_files, missing, number, read_rows
from covidmm.prepare.samples import Box, Issue, Issues, LabelledFolder, Sample
from covidmm.prepare.scratch import Scratch, joined, parted

IMAGE_CSV = "train_image_level.csv"
STUDY_CSV = "train_study_level.csv"
STUDY_COLUMNS = (
    "Negative for Pneumonia",
    "Typical Appearance",
    "Indeterminate Appearance",
    "Atypical Appearance",
)
"""Columns of the study table, in the order of ``STUDY_CLASSES``."""

# Both columns give the same corners to five decimals; x + width adds one rounding.
_AGREE_PIXELS = 0.01


class ImageRow(NamedTuple):
    """One row of the image table."""

    study_id: str
    boxes: tuple[Box, ...]


def read_images(path: Path, into: Table[ImageRow] | None = None) -> Table[ImageRow]:
    """Read ``train_image_level.csv``: image id -> study and boxes.

    Args:
        path: the file.
        into: an empty table to fill and return; None: one in memory.

    Raises:
        DataError: the file cannot be read, or a column is missing.
    """
    table: Table[ImageRow] = Table(path.name) if into is None else into
    for line, row in read_rows(path, ("id", "boxes", "label", "StudyInstanceUID")):
        image_id = row["id"].removesuffix("_image")
        try:
            if not image_id or image_id == row["id"]:
                raise ValueError("id: expected <image>_image")
            if image_id in table.rows or image_id in table.refused:
                raise ValueError("id: a second row for this image, neither is used")
            if not row["StudyInstanceUID"]:
                raise ValueError("StudyInstanceUID: is empty")
            boxes = _parse_boxes(row["boxes"])
            _check_agreement(boxes, _parse_label(row["label"]))
        except ValueError as error:
            column, _, cause = str(error).partition(": ")
            table.refuse(image_id, line, column, cause)
        else:
            table.rows[image_id] = ImageRow(row["StudyInstanceUID"], boxes)
    return table


def read_studies(path: Path, into: Table[str] | None = None) -> Table[str]:
    """Read ``train_study_level.csv``: study id -> class; a row that is not exactly one class is refused.

    Args:
        path: the file.
        into: as :func:`read_images`.

    Raises:
        DataError: the file cannot be read, or a column is missing.
    """
    table: Table[str] = Table(path.name) if into is None else into
    for line, row in read_rows(path, ("id", *STUDY_COLUMNS)):
        study_id = row["id"].removesuffix("_study")
        flags = [row[column] for column in STUDY_COLUMNS]
        if not study_id or study_id == row["id"]:
            table.refuse(study_id, line, "id", "expected <study>_study")
        elif study_id in table.rows or study_id in table.refused:
            table.refuse(study_id, line, "id", "a second row for this study, neither is used")
        elif sorted(flags) != ["0", "0", "0", "1"]:
            cause = f"unknown study label: expected a single 1 among the four classes, got {' '.join(flags)}"
            table.refuse(study_id, line, "study class", cause)
        else:
            table.rows[study_id] = STUDY_CLASSES[flags.index("1")]
    return table


def read_folder(raw: Path, scratch: Scratch) -> LabelledFolder:
    """Join the tables of a raw SIIM folder with its files.

    Args:
        raw: the folder.
        scratch: holds what is read.

    Raises:
        DataError: a table is missing or malformed, or there is no DICOM file.
    """
    skipped = Issues(scratch.map())
    images = read_images(raw / IMAGE_CSV, Table.on_disk(IMAGE_CSV, scratch, skipped))
    studies = read_studies(raw / STUDY_CSV, Table.on_disk(STUDY_CSV, scratch, skipped))
    found = scratch.map()
    for path in find_files(raw / "train", ".dcm", skipped):
        found[joined(path.stem, *path.relative_to(raw).parts)] = None
    samples = scratch.map()
    for image_id, *parts in map(parted, found):
        if image_id in images.refused:
            continue  # its row is listed already
        path = Path(*parts)
        problem = ("image id", "a second file of this image") if image_id in samples else None
        problem = problem or _problem(path.relative_to("train"), images, studies)
        if problem:
            skipped.append(Issue(path.as_posix(), *problem))
        else:
            samples[image_id] = _sample(raw / path, images, studies)
    for image_id in missing(images.rows, (parted(key)[0] for key in found)):
        skipped.append(Issue(IMAGE_CSV, f"id '{image_id}_image'", "no such file below train/"))
    used = scratch.map()
    for _, row in images.rows.items():
        used[row.study_id] = None
    for study_id in missing(studies.rows, used):
        skipped.append(Issue(STUDY_CSV, f"id '{study_id}_study'", f"no usable image of it in {IMAGE_CSV}"))
    return LabelledFolder(samples, skipped, STUDY_CLASSES)


def _sample(path: Path, images: Table[ImageRow], studies: Table[str]) -> Sample:
    row = images.rows[path.stem]
    study_class = studies.rows[row.study_id]
    return Sample(
        image_id=path.stem,
        path=str(path),
        file_name=f"{row.study_id}/{path.stem}.png",
        study_id=row.study_id,
        study_class=study_class,
        classes=(study_class,),
        boxes=row.boxes,
        label_file=IMAGE_CSV,
    )


def _problem(path: Path, images: Table[ImageRow], studies: Table[str]) -> tuple[str, str] | None:
    """Field and cause why a file (path below ``train``) cannot be joined with the tables."""
    row = images.rows.get(path.stem)
    if row is None:
        return "image id", f"no row in {IMAGE_CSV}"
    if len(path.parts) != 3:
        return "path", "expected train/<study>/<series>/<image>.dcm"
    if row.study_id != path.parts[0]:
        return "StudyInstanceUID", f"{IMAGE_CSV} puts it into study {row.study_id!r}"
    if row.study_id in studies.refused:
        return "study class", f"the row of study {row.study_id!r} in {STUDY_CSV} is unusable"
    if row.study_id not in studies.rows:
        return "study class", f"study {row.study_id!r} has no row in {STUDY_CSV}"
    return None


def _parse_boxes(text: str) -> tuple[Box, ...]:
    """Parse the ``boxes`` column, a Python literal such as ``[{'x': 1.0, 'y': 2.0, 'width': 3.0, ...}]``."""
    if text.lower() in ("", "nan"):
        return ()
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        raise ValueError("boxes: not a list of boxes") from None
    if not isinstance(value, list) or not all(isinstance(box, dict) for box in value):
        raise ValueError("boxes: not a list of boxes")
    boxes = []
    for index, box in enumerate(value):
        try:
            x, y, width, height = (number(str(box[key])) for key in ("x", "y", "width", "height"))
        except KeyError as error:
            raise ValueError(f"boxes[{index}]: has no {error}") from None
        except ValueError as error:
            raise ValueError(f"boxes[{index}]: {error}") from None
        boxes.append((x, y, width, height))
    return tuple(boxes)


def _parse_label(text: str) -> tuple[Box, ...]:
    """Parse the ``label`` column: ``opacity 1 x1 y1 x2 y2 ...``, or ``none 1 0 0 1 1``."""
    tokens = text.split()
    if not tokens or len(tokens) % 6:
        raise ValueError(f"label: expected groups of six (name score x1 y1 x2 y2), got {len(tokens)} words")
    groups = [tokens[start : start + 6] for start in range(0, len(tokens), 6)]
    unknown = Counter(group[0] for group in groups if group[0] not in ("opacity", "none"))
    if unknown:
        raise ValueError(f"label: unknown name {next(iter(unknown))!r}, expected 'opacity' or 'none'")
    boxes = []
    for group in groups:
        try:
            x1, y1, x2, y2 = map(number, group[2:])
        except ValueError as error:
            raise ValueError(f"label: {error}") from None
        if group[0] == "opacity":
            boxes.append((x1, y1, x2 - x1, y2 - y1))
    return tuple(boxes)


def _check_agreement(boxes: tuple[Box, ...], label: tuple[Box, ...]) -> None:
    if len(boxes) != len(label):
        raise ValueError(f"label: names {len(label)} opacities where the column boxes has {len(boxes)}")
    for index, (first, second) in enumerate(zip(sorted(boxes), sorted(label), strict=True)):
        if max(abs(a - b) for a, b in zip(first, second, strict=True)) > _AGREE_PIXELS:
            raise ValueError(f"label: box {index} disagrees with the column boxes: {second} against {first}")
