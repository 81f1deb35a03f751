"""Boxes and labels as one table: ``labels.csv`` and ``images/SPLIT/...png``.

A row for each box, in pixels, x2 and y2 beyond the last one; a row without a box for each label of an image that has no
boxes, and one without a class for an image without either. The columns are called as ``tools/prepare.py table`` reads
them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from covidmm.datasets.annotated_image import AnnotatedImage
from covidmm.datasets.prepared_folder import PreparedFolder
from covidmm.errors import DataError
from covidmm.outputs.exported_images import categories_of, copy_picture, every_box, notes_of, relative_name, used_splits
from covidmm.utils.csv_tables import csv_bytes

COLUMNS = (
    *("image", "class", "x1", "y1", "x2", "y2", "crowd"),
    *("split", "patient", "study", "image_width", "image_height"),
)


def write_table(data: PreparedFolder, folder: Path, name: Path) -> list[str]:
    """Fill a folder with images and a table.

    Args:
        data: what is written.
        folder: an empty folder.
        name: what it will be called.

    Returns:
        What was written or changed.

    Raises:
        DataError: there is neither box nor label, splits have different classes, or a picture is missing or of another
            size.
    """
    if not data.boxed and not data.multi_label:
        raise DataError(f"{data.folder}: has neither boxes nor labels")
    splits, categories = used_splits(data), categories_of(data)
    rows, cut = [], 0
    for split, one in splits.items():
        for image in one.images:
            relative = f"images/{split}/{relative_name(image)}"
            copy_picture(image, folder / relative)
            boxes, far = every_box(image)
            cut += far
            height, width = image.size
            shared = (split, image.patient, image.study_id, width, height)
            rows += [(relative, *own, *shared) for own in _rows(image, boxes, categories)]
    (folder / "labels.csv").write_bytes(csv_bytes(COLUMNS, rows))
    return notes_of(splits, cut)


def _rows(
    image: AnnotatedImage, boxes: list[tuple[list[float], int, bool]], categories: tuple[str, ...]
) -> Iterator[tuple[Any, ...]]:
    """Class, corners and whether a crowd, of each row of a picture."""
    for corners, label, crowd in boxes:
        yield categories[label], *corners, int(crowd)
    if not boxes:
        for label in image.findings or ("",):
            yield label, *[None] * 5
