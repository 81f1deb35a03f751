"""Boxes as YOLO text labels, as Ultralytics' YOLOv5 and its successors read them (docs.ultralytics.com).

``images/SPLIT/...png``, ``labels/SPLIT/...txt`` of the same name, and ``data.yaml``. A line of a label file is ``class
x y width height``: the class index, and the centre and the sides of a box as shares of the picture's width and height.
A picture without a box has an empty file.
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

import numpy as np

from covidmm.datasets.annotated_image import AnnotatedImage
from covidmm.datasets.prepared_folder import PreparedFolder
from covidmm.errors import DataError
from covidmm.outputs.exported_images import (
    categories_of,
    copy_picture,
    cut_boxes,
    notes_of,
    relative_name,
    require_boxes,
    used_splits,
)
from covidmm.utils.boxes import normalised


def write_yolo(data: PreparedFolder, folder: Path, name: Path) -> list[str]:
    """Fill a folder with images, labels and ``data.yaml``.

    Args:
        data: what is written.
        folder: an empty folder.
        name: what it will be called, for ``path`` of ``data.yaml``.

    Returns:
        What was left out or changed.

    Raises:
        DataError: there is no box at all, splits have different classes, a picture is missing or of another size, or
            the name of one would not be found again.
    """
    require_boxes(data)
    splits, categories = used_splits(data), categories_of(data)
    cut = crowds = 0
    for split, one in splits.items():
        taken: dict[PurePosixPath, str] = {}
        for image in one.images:
            relative = _relative(image, taken)
            lines, far = label_lines(image)
            cut, crowds = cut + far, crowds + len(image.crowds)
            copy_picture(image, folder / "images" / split / relative)
            label = folder / "labels" / split / relative.with_suffix(".txt")
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text("".join(f"{line}\n" for line in lines))
    (folder / "data.yaml").write_text(data_yaml(name, list(splits), categories), encoding="utf-8")
    notes = notes_of(splits, cut)
    notes += [f"{crowds} crowds were left out, for which YOLO has no label"] * bool(crowds)
    absent = [split for split in ("train", "val") if split not in splits]
    notes += [f"no {' and no '.join(absent)} images: Ultralytics trains only where data.yaml has both"] * bool(absent)
    return notes


def label_lines(image: AnnotatedImage) -> tuple[list[str], int]:
    """A line per box, and how many boxes were cut by more than a pixel.

    Eight digits are a ten-thousandth of a pixel at 10,000 pixels.
    """
    inside, cut = cut_boxes(image, image.boxes)
    shares = normalised(inside, image.size)
    values = np.concatenate([(shares[:, :2] + shares[:, 2:]) / 2, shares[:, 2:] - shares[:, :2]], axis=1)
    rows = zip(image.labels.tolist(), values.tolist(), strict=True)
    lines = [f"{label} {' '.join(f'{value:.8f}' for value in row)}" for label, row in rows]
    return lines, cut


def _relative(image: AnnotatedImage, taken: dict[PurePosixPath, str]) -> PurePosixPath:
    """Where below the split's folders a picture goes; its label is found by replacing the last 'images' of its path."""
    name = relative_name(image)
    if "images" in name.parts[:-1]:
        raise DataError(f"{image.path}: YOLO would not find the label of {str(name)!r}: it has a folder 'images'")
    stem = name.with_suffix("")
    if stem in taken:
        raise DataError(f"{image.path}: has the label file of {taken[stem]}, which differs by its ending alone")
    taken[stem] = str(image.path)
    return name


def data_yaml(name: Path, splits: list[str], classes: tuple[str, ...]) -> str:
    """``data.yaml``; JSON's strings are YAML's."""
    lines = ["# Written by covidmm. After moving the folder, change 'path'.", f"path: {json.dumps(str(name))}"]
    lines += [f"{split}: images/{split}" for split in splits]
    lines += ["names:", *(f"  {number}: {json.dumps(one, ensure_ascii=False)}" for number, one in enumerate(classes))]
    return "\n".join(lines) + "\n"
