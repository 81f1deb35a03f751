"""What every layout of exported labels needs: its classes, its pictures as they are, boxes inside them, counts."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from covidmm.datasets.annotated_image import AnnotatedImage
from covidmm.datasets.prepared_folder import PreparedFolder, PreparedSplit
from covidmm.errors import DataError

# How far a cut goes unsaid, in pixels: rounding.
_ROUNDING = 1.0


def used_splits(data: PreparedFolder) -> dict[str, PreparedSplit]:
    """The splits that have images."""
    return {split: one for split, one in data.splits.items() if one.images}


def categories_of(data: PreparedFolder) -> tuple[str, ...]:
    """Names of the classes, by class index.

    Raises:
        DataError: splits have different ones.
    """
    categories = {one.categories for one in used_splits(data).values()}
    if len(categories) > 1:
        raise DataError(f"{data.folder}: its splits have different categories: {sorted(categories)}")
    return next(iter(categories))


def require_boxes(data: PreparedFolder) -> None:
    """Refuse a folder without any box.

    Raises:
        DataError: it is one.
    """
    if not data.boxed:
        raise DataError(f"{data.folder}: has no box; empty labels would call every image negative")


def relative_name(image: AnnotatedImage) -> PurePosixPath:
    """Where a picture lies below the folder of images.

    Raises:
        DataError: it would lead out of it.
    """
    name = PurePosixPath(image.coco["file_name"])
    if name.is_absolute() or ".." in name.parts:
        raise DataError(f"{image.path}: {str(name)!r} leads out of the folder")
    return name


def unique_stems(images: Iterable[AnnotatedImage]) -> dict[Path, str]:
    """A name without folders for each picture, by its path: its stem where all of them are unique, else its path."""
    names = {image.path: relative_name(image).with_suffix("") for image in images}
    if len({name.name for name in names.values()}) == len(names):
        return {path: name.name for path, name in names.items()}
    found: dict[str, Path] = {}
    for path, name in names.items():
        stem = "_".join(name.parts)
        while stem in found:
            stem += "_"
        found[stem] = path
    return {path: stem for stem, path in found.items()}


def copy_picture(image: AnnotatedImage, target: Path) -> None:
    """Copy a picture, and make the folders for it.

    Raises:
        DataError: it cannot be read, or is of another size than its boxes count in.
    """
    try:
        with Image.open(image.path) as picture:
            size = picture.size[::-1]
    except OSError as error:
        raise DataError(f"{image.path}: cannot be read as a picture: {error}") from error
    if size != image.size:
        own = f"{image.size[1]} x {image.size[0]}"
        raise DataError(f"{image.path}: is {size[1]} x {size[0]} pixels, its boxes count in {own}")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(image.path, target)


def cut_boxes(image: AnnotatedImage, boxes: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
    """Boxes (N, 4) x1 y1 x2 y2 cut to their picture, and how many of them were cut by more than a pixel."""
    height, width = image.size
    inside = np.clip(boxes, 0, [width, height, width, height])
    return inside, int((np.abs(inside - boxes).max(1, initial=0) > _ROUNDING).sum())


def every_box(image: AnnotatedImage) -> tuple[list[tuple[list[float], int, bool]], int]:
    """The boxes and crowds of a picture, cut to it.

    Returns:
        ``(x1 y1 x2 y2 in pixels, to a ten-thousandth; class index; whether a crowd)`` of each, and how many were cut by
        more than a pixel.
    """
    inside, cut = cut_boxes(image, np.concatenate([image.boxes, image.crowds]))
    labels = [*image.labels.tolist(), *image.crowd_labels.tolist()]
    crowds = [place >= len(image.boxes) for place in range(len(labels))]
    return list(zip(inside.round(4).tolist(), labels, crowds, strict=True)), cut


def notes_of(splits: Mapping[str, PreparedSplit], cut: int) -> list[str]:
    """What is said of an export: images and boxes of each split, and how many boxes were cut."""
    counts = {split: (len(one.images), sum(len(image.boxes) for image in one.images)) for split, one in splits.items()}
    notes = [f"{split}: {images} images, {boxes} boxes" for split, (images, boxes) in counts.items()]
    return notes + [f"{cut} boxes reached over the edge and were cut to their image"] * bool(cut)
