"""Annotation files as they are read back: whoever edited one wrote what is in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from covidmm.errors import DataError
from covidmm.utils.fileio import json_value

_PARTS = ("images", "annotations", "categories")
#: No box is so far away or so large, in pixels; it also holds off infinities. Chosen here.
_FARTHEST = 1e9


def read_annotations(path: str | Path) -> dict[str, Any]:
    """Read a COCO file.

    Raises:
        DataError: it is not JSON, or not a COCO file; it lists no image, a box has a negative side, or as
            :func:`require_entries`.
    """
    try:
        content = json_value(Path(path).read_bytes().decode())  # MMDetection takes no byte order mark
    except FileNotFoundError:
        raise DataError(f"{path}: no such annotation file") from None
    except ValueError as error:
        raise DataError(f"{path}: is not JSON ({error}); prepare the data set again") from error
    missing = {*_PARTS} - set(content if isinstance(content, dict) else ())
    if missing:
        raise DataError(f"{path}: is no COCO file, has no {', '.join(sorted(missing))}")
    for part in _PARTS:
        if not isinstance(content[part], list) or not all(isinstance(one, dict) for one in content[part]):
            raise DataError(f"{path}: is no COCO file, its {part} are no list of objects")
    if not content["images"]:
        raise DataError(f"{path}: lists no image")
    require_entries(path, content["images"], content["annotations"])
    for one in content["annotations"]:
        if min(one["bbox"][2:]) < 0:
            raise DataError(f"{path}: image {one['image_id']}: {one['bbox']!r} has a negative side")
    return content


def require_entries(
    path: str | Path, images: Sequence[Mapping[str, Any]], annotations: Sequence[Mapping[str, Any]]
) -> None:
    """Refuse entries whose values are of another kind than everything that reads them takes for granted.

    Raises:
        DataError: an image without a number, a file or a size, one number twice, a box of no image, or what is no box.
    """
    numbers: set[int] = set()
    for image in images:
        _require_image(path, image)
        if image["id"] in numbers:
            raise DataError(f"{path}: image {image['id']} is listed twice")
        numbers.add(image["id"])
    for annotation in annotations:
        number, box = annotation.get("image_id"), annotation.get("bbox")
        if not isinstance(number, int) or number not in numbers:
            raise DataError(f"{path}: a box belongs to image {number!r}, which it does not have")
        if not _is_box(box):
            raise DataError(f"{path}: image {number}: {box!r} is no box")


def _require_image(path: str | Path, image: Mapping[str, Any]) -> None:
    if not isinstance(image.get("id"), int):
        raise DataError(f"{path}: an image has no number, but the id {image.get('id')!r}")
    name = image.get("file_name")
    if not isinstance(name, str) or not name or "\0" in name:
        raise DataError(f"{path}: image {image['id']}: {name!r} is no file name")
    for side in ("width", "height", "original_width", "original_height"):
        value = image.get(side, 1 if side.startswith("original") else None)
        if not isinstance(value, int) or value < 1:
            raise DataError(f"{path}: image {image['id']}: {side} is {value!r}, not a number of pixels")
    for key in ("image_id", "study_id", "study_class"):
        if not isinstance(image.get(key), str | None):
            raise DataError(f"{path}: image {image['id']}: {key} is {image[key]!r}, not a text")


def _is_box(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 4
        # a NaN is below nothing
        and all(isinstance(number, int | float) and abs(number) < _FARTHEST for number in value)
    )
