"""COCO detection files, with their images in any folder.

``RAW/**/*.json``, those of them that are COCO files; pictures or DICOM, found by ``file_name`` below RAW. Files named
after splits (``train.json``, ``instances_val2017.json``) give their images that split.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from covidmm.errors import DataError
from covidmm.prepare.box_values import FORMS, box_of, require_pixels
from covidmm.prepare.labelled_images import LabelledImage, LabelledImages, label_text, split_called
from covidmm.prepare.options import Options
from covidmm.prepare.samples import Box, Issue, LabelledBox, LabelledFolder

#: Entries of a COCO image that others of the prepared file are made from, or that would contradict it.
_OWN = ("id", "file_name", "width", "height", "original_width", "original_height", "image_id", "study_id", "patient")
_SPLIT = re.compile(r"(?:^|[^a-z])(train|val|valid|validation|test)(?:[^a-z]|$)")


def read_folder(raw: Path, options: Options) -> LabelledFolder:
    """Read every COCO file below a folder, and find its images.

    Categories are joined by name; ids may have gaps or begin at 0. An image with an annotation that cannot be read is
    not used.

    Raises:
        DataError: there is no COCO file, one is damaged, or two classes are called the same but for case or spaces.
    """
    files = sorted(path for path in raw.rglob("*.json") if not path.name.startswith("."))
    contents = {path: content for path in files if (content := _coco(path)) is not None}
    if not contents:
        raise DataError(f"{raw}: no COCO file in it: .json with images, annotations and categories")
    found = LabelledImages(raw, options)
    for path, content in contents.items():
        _read(path, content, found)
    return found.folder()


def _coco(path: Path) -> dict[str, Any] | None:
    """The content of a COCO detection file; None of another JSON file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(content, dict) or not {"images", "annotations", "categories"} <= set(content):
        return None
    for part in ("images", "annotations", "categories"):
        if not isinstance(content[part], list) or not all(isinstance(one, dict) for one in content[part]):
            raise DataError(f"{path}: is no COCO file, its {part} are no list of objects")
    return content


def _read(path: Path, content: Mapping[str, Any], found: LabelledImages) -> None:
    """Take the images of a file with their boxes."""
    indices = found.names.add_each((category.get("name") for category in content["categories"]), path.name)
    labels: dict[Any, int] = {}
    for category, index in zip(content["categories"], indices, strict=True):
        if _key(category.get("id")) in labels:
            raise DataError(f"{path}: two categories have the id {category.get('id')!r}")
        labels[_key(category.get("id"))] = index
    images: dict[Any, LabelledImage] = {}
    unusable = set()
    for entry in content["images"]:
        number = _key(entry.get("id"))
        with found.reading(path.name, f"image {number!r}"):
            if number in unusable or number in images:
                unusable.add(number)
                raise ValueError("id: is given twice; neither image is used")
            unusable.add(number)
            images[number] = _image(path, entry, found)
            unusable.remove(number)
    for place, annotation in enumerate(content["annotations"]):
        number = _key(annotation.get("image_id"))
        if number in unusable:
            continue  # its image is listed already
        try:
            if number not in images:
                raise ValueError(f"image_id: there is no image {number!r}")
            images[number].boxes.append(_labelled(annotation, labels))
        except ValueError as error:
            column, _, cause = str(error).partition(": ")
            found.skipped.append(Issue(path.name, f"{column} (annotation {annotation.get('id', place)!r})", cause))
            if number in images:
                found.refuse(images[number].source)
                unusable.add(number)
    for number, image in images.items():
        if number not in unusable:
            with found.reading(path.name, f"image {number!r}"):
                found.add(image)


def _image(path: Path, entry: Mapping[str, Any], found: LabelledImages) -> LabelledImage:
    """An image of a file, without boxes."""
    name = entry.get("file_name")
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"file_name: {name!r} is no file name")
    source = found.files.find(name, path.parent)
    sides = entry.get("height"), entry.get("width")
    return LabelledImage(
        source,
        path.name,
        size=sides if all(isinstance(side, int) and side > 0 for side in sides) else None,
        patient=label_text(entry.get("patient")) or label_text(entry.get("patient_id")),
        study=label_text(entry.get("study_id")),
        split=_split(path),
        extra={key: value for key, value in entry.items() if key not in _OWN},
    )


def _split(path: Path) -> str | None:
    match = _SPLIT.search(path.stem.lower().replace("_", " ").replace("-", " ").translate(_DIGITS))
    return match and split_called(match[1])


_DIGITS = str.maketrans(dict.fromkeys("0123456789", " "))


def _labelled(annotation: Mapping[str, Any], labels: Mapping[Any, int]) -> LabelledBox:
    label = labels.get(_key(annotation.get("category_id")))
    if label is None:
        raise ValueError(f"category_id: there is no category {annotation.get('category_id')!r}")
    return LabelledBox(
        _box(annotation),
        label,
        bool(annotation.get("iscrowd") or annotation.get("ignore")),
        {key: annotation[key] for key in ("attributes", "readers", "reader", "score") if key in annotation},
    )


def _key(value: Any) -> int | str:
    """An id; of another kind what it looks like, for messages."""
    return value if isinstance(value, int | str) else repr(value)


def _box(annotation: Mapping[str, Any]) -> Box:
    """``bbox`` of an annotation.

    Raises:
        ValueError: it is no box in pixels.
    """
    values = annotation.get("bbox")
    numbers = isinstance(values, list) and all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in values
    )
    if not numbers or len(values) != 4:
        raise ValueError(f"bbox: expected x, y, width, height in pixels, got {values!r}")
    require_pixels(values)
    return box_of([float(value) for value in values], FORMS[1])
