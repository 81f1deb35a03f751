"""VinBigData Chest X-ray Abnormalities Detection (VinDr-CXR), with the boxes of several readers.

``RAW/train.csv`` (``image_id, class_name, class_id, rad_id, x_min, y_min, x_max, y_max``, a row for each box of a
reader, or for a reader without a finding) and images in any folder, ``train/<image_id>.dicom`` as published. Columns
``width`` and ``height``, which copies with smaller pictures add, are compared with the pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from covidmm.prepare.box_values import FORMS, box_of, numbers, require_pixels
from covidmm.prepare.label_files import Table, read_rows
from covidmm.prepare.labelled_images import LabelledImage, LabelledImages
from covidmm.prepare.options import Options
from covidmm.prepare.readers import NO_CONSENSUS, Drawn, combined
from covidmm.prepare.samples import Box, LabelledBox, LabelledFolder

LABEL_CSV = "train.csv"
#: By the publisher's ``class_id``.
FINDINGS = (
    "Aortic enlargement",
    "Atelectasis",
    "Calcification",
    "Cardiomegaly",
    "Consolidation",
    "ILD",
    "Infiltration",
    "Lung Opacity",
    "Nodule/Mass",
    "Other lesion",
    "Pleural effusion",
    "Pleural thickening",
    "Pneumothorax",
    "Pulmonary fibrosis",
)
NO_FINDING = "No finding"
"""Of the ``class_id`` 14, without a box."""
_CORNERS = ("x_min", "y_min", "x_max", "y_max")
_PIXEL = (["0", "0", "1", "1"], ["0.0", "0.0", "1.0", "1.0"])


class Reading(NamedTuple):
    """One row: what one reader drew."""

    reader: str
    finding: int | None
    """Index into :data:`FINDINGS`; None of a reader who found nothing."""
    box: Box | None
    size: tuple[int, int] | None
    """Height and width that the row gives."""


def read_readings(path: Path) -> Table[list[Reading]]:
    """Read ``train.csv``: image -> rows. A bad row makes its image unusable.

    Raises:
        DataError: the file cannot be read, or a column is missing.
    """
    table: Table[list[Reading]] = Table(path.name)
    for line, row in read_rows(path, ("image_id", "class_name", "class_id", "rad_id", *_CORNERS)):
        image = row["image_id"]
        with table.reading(image, line):
            if not image:
                raise ValueError("image_id: is empty")
            reading = _reading(row)
            if image not in table.refused:
                readings = table.rows.setdefault(image, [])
                if readings and readings[0].size != reading.size:
                    raise ValueError("width: differs between the rows of this image, or height does")
                readings.append(reading)
    return table


def read_folder(raw: Path, options: Options) -> LabelledFolder:
    """Read the boxes of all readers, find the images, and fuse the boxes as ``options.readers`` says.

    Raises:
        DataError: the table is missing or malformed.
    """
    table = read_readings(raw / LABEL_CSV)
    found = LabelledImages(raw, options)
    found.names.add_each(FINDINGS, LABEL_CSV)
    found.skipped += table.issues
    found.refuse_called(table.refused, raw / "train")
    disputed = 0
    for image, readings in table.rows.items():
        with found.reading(table.name, f"id {image!r}"):
            source = found.files.called(image, raw / "train")
            drawn = [Drawn(one.reader, LabelledBox(one.box, one.finding)) for one in readings if one.box]
            boxes = combined(drawn, options.readers)
            if drawn and not boxes:
                disputed += 1
                found.refuse(source)
            else:
                found.add(LabelledImage(source, table.name, boxes, size=readings[0].size))
    folder = found.folder()
    if not disputed:
        return folder
    return replace(folder, left_out={NO_CONSENSUS: disputed, **folder.left_out})


def _reading(row: Mapping[str, str]) -> Reading:
    """A row."""
    if not row["rad_id"]:
        raise ValueError("rad_id: is empty")
    sides = [row.get("height", ""), row.get("width", "")]
    size = numbers({"height": sides[0], "width": sides[1]}) if any(sides) else None
    both = size and (int(size[0]), int(size[1]))
    texts = {name: row[name] for name in _CORNERS}
    names = dict(enumerate((*FINDINGS, NO_FINDING)))
    number = int(row["class_id"]) if row["class_id"].isdecimal() else None
    if names.get(number) != row["class_name"]:
        known = names.get(number, "no class")
        raise ValueError(f"class_name: {row['class_name']!r} with class_id {row['class_id']}, which is {known}")
    if number == len(FINDINGS):
        # a copy of the data set gives them a box of one pixel
        if any(texts.values()) and list(texts.values()) not in _PIXEL:
            raise ValueError(f"class_name: {NO_FINDING!r}, yet the row has a box")
        return Reading(row["rad_id"], None, None, both)
    found = numbers(texts)
    require_pixels(found)
    box = box_of(found, FORMS[0])
    if 0 in box[2:]:
        raise ValueError(f"x_max: the box has no area: {' '.join(texts.values())}")
    return Reading(row["rad_id"], number, box, both)
