"""YOLO text labels as Ultralytics has them.

``RAW/**/data.yaml`` (``names``, and ``train``, ``val``, ``test`` as a folder, folders, or lists of images in ``.txt``
files), ``images/**`` and, beside it, ``labels/**/*.txt`` of the same names. A line is ``class x y width height`` or
``class x1 y1 x2 y2 x3 y3 ...``, in shares of the image; a polygon becomes its bounding box. An image without a label
file has no box.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from covidmm.errors import DataError
from covidmm.prepare.box_values import FORMS, box_of, numbers, require_shares
from covidmm.prepare.labelled_images import LabelledImage, LabelledImages
from covidmm.prepare.options import Options
from covidmm.prepare.samples import Issue, LabelledBox, LabelledFolder

SPLITS = {"train": "train", "val": "val", "valid": "val", "test": "test"}


def read_folder(raw: Path, options: Options) -> LabelledFolder:
    """Read the label file of every image that ``data.yaml`` names.

    An image with a line that cannot be used is not used.

    Raises:
        DataError: there is no ``data.yaml`` or several, it is damaged, two of its splits share an image, or no image
            has a label file.
    """
    path = _data_file(raw)
    content = _content(path)
    found = LabelledImages(raw, options)
    classes = _classes(path, content["names"], found)
    splits: dict[Path, str] = {}
    places = {key: _places(path, content, key, raw) for key in SPLITS}
    for key, split in SPLITS.items():
        for place in places[key]:
            for source in found.files.within(place) if place.is_dir() else _listed(place, path, found):
                if splits.setdefault(source, split) != split:
                    raise DataError(f"{path}: {found.name(source)} is in both {splits[source]} and {split}")
    labels = {source: _label_file(source, raw) for source in splits}
    if splits and not any(label.is_file() for label in labels.values()):
        first = found.name(next(iter(labels.values())))
        raise DataError(f"{path}: no image has a label file, such as {first}")
    for source, split in splits.items():
        image = LabelledImage(source, found.name(labels[source]), split=split)
        if not labels[source].is_file() or _read(labels[source], classes, image, found):
            with found.reading(path.name, found.name(source)):
                found.add(image)
    known = {*labels.values(), *raw.rglob("classes.txt"), *(place for own in places.values() for place in own)}
    there = {label for folder in {one.parent for one in labels.values()} for label in folder.glob("*.txt")}
    for label in sorted(there - known):
        found.skipped.append(Issue(found.name(label), "file_name", "there is no image of this name in a split"))
    return found.folder()


def _data_file(raw: Path) -> Path:
    """The YAML file that names the classes, by whatever name it has."""
    files = [path for path in raw.rglob("*") if path.suffix.lower() in (".yaml", ".yml") and path.is_file()]
    if own := [path for path in files if path.stem == "data"]:
        files = own
    if len(files) != 1:
        cause = f"several files {files[0].name}, {files[1].name}" if files else "no data.yaml"
        raise DataError(f"{raw}: {cause}; expected one with names, train and val")
    return files[0]


def _content(path: Path) -> Mapping[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or "names" not in content or not any(content.get(key) for key in SPLITS):
        raise DataError(f"{path}: expected names, and train, val or test")
    if "kpt_shape" in content:
        raise DataError(f"{path}: kpt_shape: labels of keypoints are not read, only boxes and polygons")
    return content


def _classes(path: Path, names: Any, found: LabelledImages) -> dict[int, int]:
    """Class number in the label files -> index of its name."""
    listed = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(listed, dict) or not all(isinstance(key, int) and key >= 0 for key in listed):
        raise DataError(f"{path}: names: expected a list, or names by their numbers")
    indices = found.names.add_each((listed[key] for key in sorted(listed)), path.name)
    return dict(zip(sorted(listed), indices, strict=True))


def _places(path: Path, content: Mapping[str, Any], key: str, raw: Path) -> list[Path]:
    """The folders and lists of images of a split."""
    entries = content.get(key) or []
    places = []
    for entry in entries if isinstance(entries, list) else [entries]:
        if not isinstance(entry, str):
            raise DataError(f"{path}: {key}: {entry!r} is no folder")
        place = _place(path, content.get("path"), entry, raw)
        if place is None:
            raise DataError(f"{path}: {key}: there is no {entry!r} below {raw.name}/")
        places.append(place)
    return places


def _place(path: Path, root: Any, entry: str, raw: Path) -> Path | None:
    """What an entry of ``data.yaml`` names: below its ``path``, or its own folder, wherever the data set was made."""
    roots = [path.parent / root] if isinstance(root, str) else []
    for folder in (*roots, path.parent):
        # Roboflow writes ../train/images for the folder beside data.yaml
        for name in (entry, entry.removeprefix("../")):
            place = (folder / name).resolve()
            if place.exists() and place.is_relative_to(raw):
                return place
    return None


def _listed(file: Path, path: Path, found: LabelledImages) -> list[Path]:
    """The images of a list, whose lines are paths from its own folder or that of ``data.yaml``."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read as a list of images: {error}") from error
    images = []
    for place, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        with found.reading(found.name(file), f"line {place}, {line.strip()!r}"):
            parts = PurePosixPath(line.strip().replace("\\", "/")).parts
            # of a path of another machine, the longest end that is a file here
            tails = [Path(*parts[start:]) for start in range(len(parts))]
            named = [(folder / tail).resolve() for tail in tails for folder in (file.parent, path.parent)]
            own = [image for image in named if image.is_file() and image.is_relative_to(found.raw)]
            if not own:
                raise ValueError("file_name: there is no such image")
            images.append(own[0])
    return images


def _label_file(image: Path, raw: Path) -> Path:
    """Where Ultralytics looks for an image's labels: ``labels`` for the last ``images`` of its path."""
    parts = list(image.relative_to(raw).parts)
    folders = [place for place, part in enumerate(parts[:-1]) if part == "images"]
    if folders:
        parts[folders[-1]] = "labels"
    return raw.joinpath(*parts).with_suffix(".txt")


def _read(file: Path, classes: Mapping[int, int], image: LabelledImage, found: LabelledImages) -> bool:
    """Take the boxes of a label file; whether all its lines can be used."""
    name = found.name(file)
    polygons, before = 0, len(found.skipped)
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        found.skipped.append(Issue(name, "labels", f"cannot be read: {error}"))
        lines = []
    for place, line in enumerate(lines, start=1):
        if values := line.split():
            with found.reading(name, f"line {place}"):
                image.boxes.append(_box(values, classes))
                polygons += len(values) > 5
    if polygons:
        found.notes.append(Issue(name, "labels", f"{polygons} polygons became their bounding boxes"))
    if len(found.skipped) > before:
        found.refuse(image.source)
        return False
    return True


def _box(texts: Sequence[str], classes: Mapping[int, int]) -> LabelledBox:
    """The box of a line."""
    if len(texts) != 5 and (len(texts) < 7 or len(texts) % 2 == 0):
        raise ValueError(f"values: expected class x y width height, or a class and a polygon; got {len(texts)} values")
    named = {f"value {place}" if place > 1 else "class": text for place, text in enumerate(texts, start=1)}
    number, *values = numbers(named)
    if number not in classes:
        raise ValueError(f"class: {texts[0]} is none of data.yaml, whose classes are {', '.join(map(str, classes))}")
    require_shares(values)
    if len(values) == 4:
        return LabelledBox(box_of(values, FORMS[2]), classes[int(number)], shares=True)
    across, down = values[::2], values[1::2]
    corners = min(across), min(down), max(across), max(down)
    return LabelledBox(box_of(corners, FORMS[0]), classes[int(number)], shares=True)
