"""SIIM-FISABIO-RSNA COVID-19 (Kaggle folder).

``RAW/train/<study>/<series>/<image>.dcm``, ``RAW/train_image_level.csv``, ``RAW/train_study_level.csv``.
"""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from covidmm.findings import STUDY_CLASSES
from covidmm.prepare.label_files import Table, count_others, find_files, join_files, number, read_rows
from covidmm.prepare.options import Options
from covidmm.prepare.samples import Box, Issue, LabelledBox, LabelledFolder, Sample

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


def read_images(path: Path) -> Table[ImageRow]:
    """Read ``train_image_level.csv``: image id -> study and boxes.

    Raises:
        DataError: the file cannot be read, or a column is missing.
    """
    table: Table[ImageRow] = Table(path.name)
    for line, row in read_rows(path, ("id", "boxes", "label", "StudyInstanceUID")):
        image_id = row["id"].removesuffix("_image")
        with table.reading(image_id, line):
            if not image_id or image_id == row["id"]:
                raise ValueError("id: expected <image>_image")
            if image_id in table:
                raise ValueError("id: a second row for this image, neither is used")
            if not row["StudyInstanceUID"]:
                raise ValueError("StudyInstanceUID: is empty")
            boxes = _parse_boxes(row["boxes"])
            _check_agreement(boxes, _parse_label(row["label"]))
            table.rows[image_id] = ImageRow(row["StudyInstanceUID"], boxes)
    return table


def read_studies(path: Path) -> Table[str]:
    """Read ``train_study_level.csv``: study id -> class; a row that is not exactly one class is refused.

    Raises:
        DataError: the file cannot be read, or a column is missing.
    """
    table: Table[str] = Table(path.name)
    for line, row in read_rows(path, ("id", *STUDY_COLUMNS)):
        study_id = row["id"].removesuffix("_study")
        flags = [row[column] for column in STUDY_COLUMNS]
        with table.reading(study_id, line):
            if not study_id or study_id == row["id"]:
                raise ValueError("id: expected <study>_study")
            if study_id in table:
                raise ValueError("id: a second row for this study, neither is used")
            if sorted(flags) != ["0", "0", "0", "1"]:
                cause = f"unknown study label: expected a single 1 among the four classes, got {' '.join(flags)}"
                raise ValueError(f"study class: {cause}")
            table.rows[study_id] = STUDY_CLASSES[flags.index("1")]
    return table


def read_folder(raw: Path, options: Options) -> LabelledFolder:
    """Join the tables of a raw SIIM folder with its files.

    Raises:
        DataError: a table is missing or malformed, or there is no DICOM file.
    """
    images = read_images(raw / IMAGE_CSV)
    studies = read_studies(raw / STUDY_CSV)
    skipped = [*images.issues, *studies.issues]
    others: list[Path] = []
    files = find_files(raw / "train", ".dcm", skipped, others)

    def sample_of(path: Path, earlier: Sample | None) -> Sample | None:
        if path.stem in images.refused:
            return None  # its row is listed already
        if earlier:
            raise ValueError("image id: a second file of this image")
        row = images.rows.get(path.stem)
        folders = path.relative_to(raw / "train").parts
        if row is None:
            raise ValueError(f"image id: no row in {IMAGE_CSV}")
        if len(folders) != 3:
            raise ValueError("path: expected train/<study>/<series>/<image>.dcm")
        if row.study_id != folders[0]:
            raise ValueError(f"StudyInstanceUID: {IMAGE_CSV} puts it into study {row.study_id!r}")
        if row.study_id in studies.refused:
            raise ValueError(f"study class: the row of study {row.study_id!r} in {STUDY_CSV} is unusable")
        if row.study_id not in studies:
            raise ValueError(f"study class: study {row.study_id!r} has no row in {STUDY_CSV}")
        study_class = studies.rows[row.study_id]
        return Sample(
            image_id=path.stem,
            source=path,
            file_name=f"{row.study_id}/{path.stem}.png",
            study_id=row.study_id,
            study_class=study_class,
            classes=(study_class,),
            boxes=tuple(map(LabelledBox, row.boxes)),
            label_file=IMAGE_CSV,
        )

    samples = join_files(raw, files, sample_of, skipped)
    for image_id in sorted(images.rows.keys() - {path.stem for path in files}):
        skipped.append(Issue(IMAGE_CSV, f"id '{image_id}_image'", "no such file below train/"))
    for study_id in sorted(studies.rows.keys() - {row.study_id for row in images.rows.values()}):
        skipped.append(Issue(STUDY_CSV, f"id '{study_id}_study'", f"no usable image of it in {IMAGE_CSV}"))
    return LabelledFolder(samples, skipped, STUDY_CLASSES, left_out=count_others(others))


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
