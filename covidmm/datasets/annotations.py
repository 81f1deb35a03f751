"""COCO detection files, people's own too: read and checked at one place, for training, testing, scoring and audit.

What is accepted means the same to covidmm's scores, to MMDetection's ``CocoDataset`` and to COCOeval; where they would
differ, because one of them drops, mixes up or invents a box, the file is refused with the entry at fault.
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from covidmm.errors import DataError
from covidmm.utils.fileio import json_value

_PARTS = ("images", "annotations", "categories")
#: No box is so far away or so large, in pixels; it also holds off infinities. Chosen here.
_FARTHEST = 1e9
#: How far, in pixels, a box may reach over its image by rounding alone. Chosen here.
_ROUNDING = 1.0
#: MMDetection's CocoDataset leaves out boxes that are narrower or lower, in pixels.
_THINNEST = 1
#: The largest area that COCOeval counts, in square pixels; beyond it a box is ignored.
_LARGEST = 1e10


def read_annotations(path: str | Path, empty: bool = False) -> dict[str, Any]:
    """Read any COCO detection file as it stands, boxes x y width height.

    Warns (UserWarning) of boxes that reach over the edge of their image, which is often x1 y1 x2 y2 taken for x y width
    height, and of an annotation with the id 0, which other COCO tools take for none.

    Args:
        path: the file.
        empty: accept one that lists no image.

    Raises:
        DataError: it is missing, not JSON or not a COCO file; it lists no image, or an entry has a value of another
            kind than everything that reads it takes for granted, or that covidmm, MMDetection and COCOeval
            understand differently.
    """
    try:
        content = json_value(Path(path).read_bytes().decode())  # MMDetection takes no byte order mark
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; make it with tools/prepare.py") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"{path}: is not JSON ({error}); prepare the data set again") from error
    missing = {*_PARTS} - set(content if isinstance(content, dict) else ())
    if missing:
        raise DataError(f"{path}: is no COCO file, has no {', '.join(sorted(missing))}")
    for part in _PARTS:
        if not isinstance(content[part], list) or not all(isinstance(one, dict) for one in content[part]):
            raise DataError(f"{path}: is no COCO file, its {part} are no list of objects")
    if not content["images"] and not empty:
        raise DataError(f"{path}: lists no image")
    categories = _categories(path, content["categories"])
    images = _images(path, content["images"])
    _require_annotations(path, content["annotations"], images, categories)
    return content


def require_ids_for_coco_tools(path: str | Path) -> None:
    """Refuse an annotation with the id 0, which pycocotools takes for a box that nothing matched.

    covidmm's own scores number the boxes anew; MMDetection's ``CocoMetric`` does not.

    Raises:
        DataError: the file has one, or as :func:`read_annotations`.
    """
    if any(annotation["id"] == 0 for annotation in read_annotations(path)["annotations"]):
        raise DataError(
            f"{path}: an annotation has the id 0, which MMDetection's CocoMetric takes for none; begin at 1"
        )


def require_classes(path: str | Path, categories: Sequence[str], classes: Sequence[str]) -> None:
    """Refuse classes of a data set that are not the file's, or in another order.

    MMDetection numbers the classes as the file lists them, so that other names would stand for the numbers.

    Args:
        path: the file.
        categories: its names, in its order.
        classes: those of the data set.

    Raises:
        DataError: they do not fit.
    """
    if unknown := [name for name in classes if name not in categories]:
        raise DataError(f"{path}: has the categories {list(categories)}, not {unknown[0]!r}")
    order = [name for name in categories if name in classes]
    if order != list(classes):
        raise DataError(f"{path}: lists its categories as {order}, the config its classes as {list(classes)}")


def _categories(path: str | Path, entries: Sequence[Mapping[str, Any]]) -> set[int]:
    """The ids of the categories."""
    ids: set[int] = set()
    names: set[str] = set()
    for category in entries:
        number, name = category.get("id"), category.get("name")
        if not _is_id(number) or number in ids or not isinstance(name, str):
            raise DataError(f"{path}: a category has no id or name of its own: {category!r}")
        if name in names:
            raise DataError(f"{path}: two categories are called {name!r}")
        ids.add(number)
        names.add(name)
    return ids


def _images(path: str | Path, entries: Sequence[Mapping[str, Any]]) -> dict[int, Mapping[str, Any]]:
    """The images by their ids."""
    found: dict[int, Mapping[str, Any]] = {}
    files: dict[str, int] = {}
    for image in entries:
        _require_image(path, image)
        number, name = image["id"], image["file_name"]
        if number in found:
            raise DataError(f"{path}: image {number} is listed twice")
        if name in files:
            raise DataError(f"{path}: images {files[name]} and {number} are one file, {name!r}")
        found[number] = image
        files[name] = number
    return found


def _require_image(path: str | Path, image: Mapping[str, Any]) -> None:
    if not _is_id(image.get("id")):
        raise DataError(f"{path}: an image has no number, but the id {image.get('id')!r}")
    name = image.get("file_name")
    if not isinstance(name, str) or not name or "\0" in name:
        raise DataError(f"{path}: image {image['id']}: {name!r} is no file name")
    for side in ("width", "height", "original_width", "original_height"):
        value = image.get(side, 1 if side.startswith("original") else None)
        if not _is_id(value) or value < 1:
            raise DataError(f"{path}: image {image['id']}: {side} is {value!r}, not a number of pixels")
    for key in ("image_id", "study_id", "study_class", "rsna_class", "patient"):
        if not isinstance(image.get(key), str | None):
            raise DataError(f"{path}: image {image['id']}: {key} is {image[key]!r}, not a text")
    labels = image.get("labels", [])
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise DataError(f"{path}: image {image['id']}: labels is {labels!r}, not a list of texts")


def _require_annotations(
    path: str | Path,
    annotations: Sequence[Mapping[str, Any]],
    images: Mapping[int, Mapping[str, Any]],
    categories: set[int],
) -> None:
    ids: set[int] = set()
    beyond = []
    for annotation in annotations:
        number, category = annotation.get("image_id"), annotation.get("category_id")
        if not _is_id(number) or number not in images:
            raise DataError(f"{path}: a box belongs to image {number!r}, which it does not have")
        where = f"{path}: image {number}"
        if not _is_id(category) or category not in categories:
            raise DataError(f"{where}: a box is of category {category!r}, which the file does not have")
        if _require_box(where, annotation.get("bbox"), images[number]) > _ROUNDING:
            beyond.append(annotation)
        _require_flags(where, annotation)
        own = annotation.get("id")
        if not _is_id(own) or own in ids:
            fault = f"the id {own!r} of another box" if own in ids else f"no whole number as id, but {own!r}"
            raise DataError(f"{where}: a box has {fault}; number the annotations 1, 2, ... over the whole file")
        ids.add(own)
    if beyond:
        one = beyond[0]
        text = f"{path}: {len(beyond)} of {len(annotations)} boxes reach over the edge of their image, such as"
        text += f" {one['bbox']} of image {one['image_id']}; boxes are x, y, width, height; taken as they stand"
        warnings.warn(text, stacklevel=3)
    if 0 in ids:
        text = f"{path}: an annotation has the id 0, which other COCO tools take for none; scored here as any other"
        warnings.warn(text, stacklevel=3)


def _require_box(where: str, box: Any, image: Mapping[str, Any]) -> float:
    """Refuse what is no box on the image; how many pixels it reaches over the edge."""
    if not _is_box(box):
        raise DataError(f"{where}: {box!r} is no box")
    x, y, width, height = box
    if min(width, height) < 0:
        raise DataError(f"{where}: {box!r} has a negative side")
    if min(width, height) < _THINNEST:
        raise DataError(f"{where}: {box!r} is thinner than a pixel, and MMDetection leaves such a box out")
    size = f"{image['width']} x {image['height']}"
    if x >= image["width"] or y >= image["height"] or x + width <= 0 or y + height <= 0:
        raise DataError(f"{where}: {box!r} lies outside the image of {size} pixels")
    return max(-x, -y, x + width - image["width"], y + height - image["height"])


def _require_flags(where: str, annotation: Mapping[str, Any]) -> None:
    """Area, crowd and ignore flags that MMDetection and COCOeval read alike."""
    area = annotation.get("area")
    if not _is_number(area) or not 0 < area <= _LARGEST:
        cause = "has no area" if area is None else f"has the area {area!r}"
        raise DataError(f"{where}: the box {annotation['bbox']!r} {cause}, expected square pixels above 0")
    crowd = annotation.get("iscrowd", 0)
    if not isinstance(crowd, int) or crowd not in (0, 1):
        raise DataError(f"{where}: iscrowd is {crowd!r}, expected 0 or 1")
    if annotation.get("ignore"):
        raise DataError(f"{where}: a box has ignore={annotation['ignore']!r}, which COCOeval does not know")


def _is_id(value: Hashable) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and (isinstance(value, int) or isfinite(value))
    )


def _is_box(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 4
        # a NaN is below nothing
        and all(_is_number(number) and abs(number) < _FARTHEST for number in value)
    )
