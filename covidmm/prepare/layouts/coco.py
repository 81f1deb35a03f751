"""COCO detection files, with their images in any folder.

``RAW/**/*.json``, those of them that are COCO files; pictures or DICOM, found by ``file_name`` below RAW. Files named
after splits (``train.json``, ``instances_val2017.json``) give their images that split.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from covidmm.errors import DataError
from covidmm.prepare.class_names import ClassNames
from covidmm.prepare.image_names import ImageFiles, patients_by, unique_ids
from covidmm.prepare.options import Options
from covidmm.prepare.samples import Box, Issue, LabelledBox, LabelledFolder, Sample

#: Entries of a COCO image that others of the prepared file are made from, or that would contradict it.
_OWN = ("id", "file_name", "width", "height", "original_width", "original_height", "image_id", "study_id", "patient")
_SPLIT = re.compile(r"(?:^|[^a-z])(train|val|valid|validation|test)(?:[^a-z]|$)")


def read_folder(raw: Path, options: Options) -> LabelledFolder:
    """Read every COCO file below a folder, and find its images.

    Categories are joined by name; ids may have gaps or begin at 0.

    Raises:
        DataError: there is no COCO file, one is damaged, or two classes are called the same but for case or spaces.
    """
    files = sorted(path for path in raw.rglob("*.json") if not path.name.startswith("."))
    contents = {path: content for path in files if (content := _coco(path)) is not None}
    if not contents:
        raise DataError(f"{raw}: no COCO file in it: .json with images, annotations and categories")
    names = ClassNames()
    for path, content in contents.items():
        for category in content["categories"]:
            names.add(category.get("name"), path.name)
    skipped: list[Issue] = []
    pictures = ImageFiles(raw)
    drawn: dict[Path, dict[str, Any]] = {}
    for path, content in contents.items():
        split = _split(path) if len(contents) > 1 else None
        for entry in _images(path, content, names, skipped):
            try:
                source = pictures.find(entry["file_name"], path.parent)
                if source in drawn:
                    raise ValueError(f"file_name: a second entry for this image, the first is in {drawn[source]['of']}")
                drawn[source] = {**entry, "of": path.name, "split": split}
            except ValueError as error:
                field, _, cause = str(error).partition(": ")
                skipped.append(Issue(path.name, f"{field} {entry['file_name']!r}", cause))
    ids = unique_ids(raw, drawn)
    patient = patients_by(options.patient_from, raw)
    samples = {}
    for source, entry in drawn.items():
        boxes = tuple(entry["boxes"])
        found = dict.fromkeys(names.names[box.label] for box in boxes)
        samples[ids[source]] = Sample(
            image_id=ids[source],
            source=source,
            file_name=f"{ids[source]}.png",
            study_id=str(entry["image"].get("study_id") or ids[source]),
            classes=tuple(found) or (names.NOTHING,),
            boxes=boxes,
            label_file=entry["of"],
            size=entry["size"],
            patient=patient(source) or _text(entry["image"].get("patient") or entry["image"].get("patient_id")),
            official=entry["split"],
            extra={key: value for key, value in entry["image"].items() if key not in _OWN},
        )
    return LabelledFolder(
        dict(sorted(samples.items())),
        skipped,
        (*names.names, names.NOTHING),
        names.names,
        pictures.left_out(drawn),
    )


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


def _split(path: Path) -> str | None:
    match = _SPLIT.search(path.stem.lower().replace("_", " ").replace("-", " ").translate(_DIGITS))
    return match and {"valid": "val", "validation": "val"}.get(match[1], match[1])


_DIGITS = str.maketrans(dict.fromkeys("0123456789", " "))


def _images(
    path: Path, content: Mapping[str, Any], names: ClassNames, skipped: list[Issue]
) -> Iterator[dict[str, Any]]:
    """Each image of a file with its boxes; what cannot be used goes to ``skipped``."""
    labels: dict[Any, int] = {}
    for category in content["categories"]:
        if category.get("id") in labels:
            raise DataError(f"{path}: two categories have the id {category.get('id')!r}")
        labels[category.get("id")] = names.index(category["name"])
    entries: dict[Any, dict[str, Any]] = {}
    for image in content["images"]:
        name, number = image.get("file_name"), image.get("id")
        if not isinstance(name, str) or not name.strip():
            skipped.append(Issue(path.name, f"image {number!r}", f"file_name: {name!r} is no file name"))
        elif number in entries:
            skipped.append(Issue(path.name, f"image {number!r}", "id: is given twice; the second image is not used"))
        else:
            sides = image.get("height"), image.get("width")
            size = sides if all(isinstance(side, int) and side > 0 for side in sides) else None
            entries[number] = {"file_name": name, "image": image, "boxes": [], "size": size}
    for place, annotation in enumerate(content["annotations"]):
        where = f"annotation {annotation.get('id', place)!r}"
        entry = entries.get(annotation.get("image_id"))
        try:
            if entry is None:
                raise ValueError(f"image_id: there is no image {annotation.get('image_id')!r}")
            if annotation.get("category_id") not in labels:
                raise ValueError(f"category_id: there is no category {annotation.get('category_id')!r}")
            entry["boxes"].append(
                LabelledBox(
                    _box(annotation),
                    labels[annotation["category_id"]],
                    bool(annotation.get("iscrowd") or annotation.get("ignore")),
                    {key: annotation[key] for key in ("attributes", "readers", "score") if key in annotation},
                )
            )
        except ValueError as error:
            skipped.append(Issue(path.name, where, str(error)))
    yield from entries.values()


def _box(annotation: Mapping[str, Any]) -> Box:
    """``bbox`` of an annotation.

    Raises:
        ValueError: it is no box in pixels.
    """
    values = annotation.get("bbox")
    numbers = isinstance(values, list) and all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in values
    )
    if not numbers or len(values) != 4 or not all(abs(value) < 1e9 for value in values):
        raise ValueError(f"bbox: expected x, y, width, height in pixels, got {values!r}")
    if 0 < max(values[2:]) <= 1:
        raise ValueError(f"bbox: expected pixels, got shares of the image: {values}")
    return tuple(map(float, values))


def _text(value: Any) -> str | None:
    return None if value is None or value == "" else str(value)
