"""Boxes as plain COCO files: ``annotations/instances_SPLIT.json`` and ``images/SPLIT/...png``.

A prepared folder holds COCO files too, with entries of covidmm's own; these have what COCO defines, patient
and study.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

from covidmm.datasets.prepared_folder import PreparedFolder
from covidmm.outputs.exported_images import (
    categories_of,
    copy_picture,
    every_box,
    notes_of,
    relative_name,
    require_boxes,
    used_splits,
)
from covidmm.utils.fileio import json_bytes


def write_coco(data: PreparedFolder, folder: Path, name: Path) -> list[str]:
    """Fill a folder with images and annotation files.

    Args:
        data: what is written; categories get the ids 1, 2, ... in the order of their class indices.
        folder: an empty folder.
        name: what it will be called.

    Returns:
        What was written or changed.

    Raises:
        DataError: there is no box at all, splits have different classes, or a picture is missing or of another size.
    """
    require_boxes(data)
    splits, categories = used_splits(data), categories_of(data)
    (folder / "annotations").mkdir()
    numbers, cut = count(1), 0
    for split, one in splits.items():
        images, annotations = [], []
        for image in one.images:
            relative = f"{split}/{relative_name(image)}"
            copy_picture(image, folder / "images" / relative)
            boxes, far = every_box(image)
            cut += far
            height, width = image.size
            entry = {"id": image.number, "file_name": relative, "width": width, "height": height}
            images.append({**entry, "study_id": image.study_id, "patient": image.patient})
            annotations += _annotations(image.number, boxes, numbers)
        named = [{"id": number, "name": one, "supercategory": ""} for number, one in enumerate(categories, start=1)]
        content = {"images": images, "annotations": annotations, "categories": named}
        (folder / "annotations" / f"instances_{split}.json").write_bytes(json_bytes(content))
    return notes_of(splits, cut)


def _annotations(
    number: int, boxes: list[tuple[list[float], int, bool]], numbers: Iterator[int]
) -> Iterator[dict[str, Any]]:
    for (x1, y1, x2, y2), label, crowd in boxes:
        width, height = round(x2 - x1, 4), round(y2 - y1, 4)
        yield {
            "id": next(numbers),
            "image_id": number,
            "category_id": label + 1,
            "bbox": [x1, y1, width, height],
            "area": round(width * height, 2),
            "iscrowd": int(crowd),
        }
