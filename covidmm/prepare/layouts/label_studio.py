"""Label Studio's own export, JSON.

``RAW/**/*.json`` with a list of tasks, and the images in any folder, found by the file name in a task's data: of an
upload (``/data/upload/1/ab12cd34-a.png``), a local file (``/data/local-files/?d=a.png``) or a web address. Beyond what
Label Studio writes as COCO it keeps the ids of tasks, several annotators, choices as labels of whole images, and that
nothing is there. A task without a finished annotation is not used: nobody has looked at its image. Of several
annotations of a task the one marked as ground truth counts, else all of them, each box with its ``reader``.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from math import cos, hypot, radians, sin
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from covidmm.errors import DataError
from covidmm.prepare.box_values import FORMS, box_of, require_pixels
from covidmm.prepare.labelled_images import LabelledImage, LabelledImages, label_text
from covidmm.prepare.options import Options
from covidmm.prepare.samples import Box, Issue, LabelledBox, LabelledFolder

_UPLOAD = re.compile(r"^[0-9a-f]{8}-")
#: Results with an extent, and the key of their value that names the class.
_SHAPES = {"rectanglelabels": "rectangle", "ellipselabels": "ellipse", "polygonlabels": "polygon"}


def read_folder(raw: Path, options: Options) -> LabelledFolder:
    """Read every Label Studio file below a folder, and find its images.

    Classes are in the order of the alphabet. An image with a result that cannot be used is not used.

    Raises:
        DataError: there is no such file, one is damaged, or two classes are called the same but for case or spaces.
    """
    found = LabelledImages(raw, options)
    files = sorted(path for path in raw.rglob("*.json") if not path.name.startswith("."))
    contents = {path: tasks for path in files if (tasks := _tasks(path)) is not None}
    if not contents:
        raise DataError(f"{raw}: no file of Label Studio in it: .json with a list of tasks, not JSON-MIN")
    names = {name: path for path, tasks in contents.items() for name in sorted(_names(tasks), reverse=True)}
    for name in sorted(names):
        found.names.add(name, found.name(names[name]))
    for path, tasks in contents.items():
        for task in tasks:
            with found.reading(found.name(path), f"task {task.get('id')!r}"):
                _add(path, task, found)
        _note_unfinished(path, tasks, found)
    return found.folder()


def _tasks(path: Path) -> list[dict[str, Any]] | None:
    """The tasks of an export; None of another JSON file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {error}") from error
    listed = isinstance(content, list) and all(
        isinstance(one, dict) and isinstance(one.get("data"), dict) for one in content
    )
    return content if listed and content else None


def _finished(task: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The annotations that count: not cancelled; of those the ground truth, where one is marked."""
    given = task.get("annotations", task.get("completions")) or []
    kept = [one for one in given if isinstance(one, dict) and not one.get("was_cancelled")]
    return [one for one in kept if one.get("ground_truth")] or kept


def _results(task: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], Any]]:
    """Every result that counts, and who gave it."""
    for annotation in _finished(task):
        reader = annotation.get("completed_by")
        reader = reader.get("id", reader.get("email")) if isinstance(reader, dict) else reader
        for result in annotation.get("result") or []:
            if isinstance(result, dict):
                yield result, reader


def _names(tasks: list[dict[str, Any]]) -> set[str]:
    return {name for task in tasks for result, _ in _results(task) for name in _classes(result)}


def _classes(result: Mapping[str, Any]) -> list[str]:
    """The classes of a shape, or the choices for the whole image."""
    value, kind = result.get("value"), result.get("type")
    found = value.get(kind) if isinstance(value, dict) and kind in (*_SHAPES, "choices") else None
    return [str(one) for one in found] if isinstance(found, list) else []


def _add(path: Path, task: Mapping[str, Any], found: LabelledImages) -> None:
    """Take the image of a task."""
    if not _finished(task):
        return
    source = _image(path, task["data"], found)
    image = LabelledImage(
        source,
        found.name(path),
        patient=label_text(task["data"].get("patient")) or label_text(task["data"].get("patient_id")),
        study=label_text(task["data"].get("study_id")),
        extra={"label_studio_id": task["id"]} if "id" in task else {},
    )
    before, choices = len(found.skipped), []
    several = len(_finished(task)) > 1
    for place, (result, reader) in enumerate(_results(task), start=1):
        where = f"task {task.get('id')!r}, result {place}"
        with found.reading(found.name(path), where):
            kind = result.get("type")
            if kind == "choices":
                choices += _classes(result)
            elif kind in _SHAPES:
                image.size = _size(result, image.size)
                extra = {"reader": reader} if several and reader is not None else {}
                labels = [found.names.index(name) for name in _classes(result)]
                if not labels:
                    raise ValueError(f"{kind}: names no class")
                image.boxes += [LabelledBox(_box(result, image.size), label, extra=extra) for label in labels]
                if how := _how_enclosed(result):
                    found.notes.append(Issue(found.name(path), f"{kind} ({where})", how))
            else:
                found.notes.append(Issue(found.name(path), f"{kind} ({where})", "has no box: left out"))
    image.findings = tuple(dict.fromkeys(" ".join(name.split()) for name in choices))
    if len(found.skipped) > before:
        found.refuse(source)
    else:
        found.add(image)


def _note_unfinished(path: Path, tasks: list[dict[str, Any]], found: LabelledImages) -> None:
    unfinished = [task.get("id") for task in tasks if not _finished(task)]
    if unfinished:
        cause = f"{len(unfinished)} tasks have no finished annotation and are not used, such as {unfinished[0]!r}"
        found.notes.append(Issue(found.name(path), "annotations", cause))
    if machine := sum(bool(task.get("predictions")) for task in tasks):
        found.notes.append(Issue(found.name(path), "predictions", f"those of {machine} tasks are no labels: left out"))
    readers = Counter(len(_finished(task)) for task in tasks)
    if several := sum(count for number, count in readers.items() if number > 1):
        cause = f"{several} images have those of several annotators, whose boxes are all kept, as 'reader'"
        found.notes.append(Issue(found.name(path), "annotations", cause))


def _image(path: Path, data: Mapping[str, Any], found: LabelledImages) -> Path:
    """The file of the image that a task shows."""
    texts = (
        [data["image"]]
        if isinstance(data.get("image"), str)
        else [one for one in data.values() if isinstance(one, str)]
    )
    error = ValueError("data: names no image")
    for text in texts:
        parts = urlsplit(text)
        local = parse_qs(parts.query).get("d")
        place = local[0] if local else unquote(parts.path)
        name = PurePosixPath(place.replace("\\", "/")).name
        for candidate in dict.fromkeys((place.lstrip("/"), name, _UPLOAD.sub("", name))):
            try:
                if candidate:
                    return found.files.find(candidate, path.parent)
            except ValueError as cause:
                error = ValueError(f"data: {text!r}: {str(cause).partition(': ')[2]}")
    raise error


def _size(result: Mapping[str, Any], known: tuple[int, int] | None) -> tuple[int, int]:
    """Height and width of the image, which every result gives."""
    sides = result.get("original_height"), result.get("original_width")
    if not all(isinstance(side, int | float) and side > 0 for side in sides):
        raise ValueError(f"original_width: expected the image's size in pixels, got {sides[1]!r} x {sides[0]!r}")
    size = int(sides[0]), int(sides[1])
    if known not in (None, size):
        raise ValueError(f"original_width: {size[1]} x {size[0]}, another result has {known[1]} x {known[0]}")
    if result.get("image_rotation"):
        raise ValueError(f"image_rotation: {result['image_rotation']}: boxes on a turned image are not read")
    return size


def _numbers(result: Mapping[str, Any], *names: str) -> list[float]:
    value = result["value"]
    found = []
    for name in names:
        one = value.get(name)
        if isinstance(one, bool) or not isinstance(one, int | float) or not abs(one) < 1e6:
            raise ValueError(f"{name}: expected percent of the image, got {one!r}")
        found.append(float(one))
    return found


def _box(result: Mapping[str, Any], size: tuple[int, int]) -> Box:
    """x, y, width, height in pixels: values are percent of the image, and turned around the corner or the centre."""
    scale_x, scale_y = size[1] / 100, size[0] / 100
    angle = radians(float(result["value"].get("rotation") or 0))
    if result["type"] == "polygonlabels":
        corners = result["value"].get("points")
        pairs = (
            isinstance(corners, list) and len(corners) > 2 and all(isinstance(p, list) and len(p) == 2 for p in corners)
        )
        if not pairs or not all(isinstance(one, int | float) for pair in corners for one in pair):
            raise ValueError("points: expected three or more pairs in percent of the image")
        xs, ys = [x * scale_x for x, _ in corners], [y * scale_y for _, y in corners]
        return _checked(min(xs), min(ys), max(xs), max(ys))
    if result["type"] == "ellipselabels":
        x, y, a, b = _numbers(result, "x", "y", "radiusX", "radiusY")
        x, y, a, b = x * scale_x, y * scale_y, a * scale_x, b * scale_y
        across, along = hypot(a * cos(angle), b * sin(angle)), hypot(a * sin(angle), b * cos(angle))
        return _checked(x - across, y - along, x + across, y + along)
    x, y, width, height = _numbers(result, "x", "y", "width", "height")
    x, y, width, height = x * scale_x, y * scale_y, width * scale_x, height * scale_y
    if width < 0 or height < 0:
        raise ValueError(f"width: {width:g} x {height:g} pixels are no box")
    corners = [
        (x + dx * cos(angle) - dy * sin(angle), y + dx * sin(angle) + dy * cos(angle))
        for dx, dy in ((0, 0), (width, 0), (0, height), (width, height))
    ]
    xs, ys = zip(*corners, strict=True)
    return _checked(min(xs), min(ys), max(xs), max(ys))


def _checked(*values: float) -> Box:
    require_pixels((*values[:2], values[2] + 2, values[3] + 2))  # far away; a thin box is no mistake of units here
    return box_of(values, FORMS[0])


def _how_enclosed(result: Mapping[str, Any]) -> str | None:
    kind = _SHAPES[result["type"]]
    if kind != "rectangle":
        return f"the box that encloses the {kind} is taken"
    return (
        "the box that encloses the rotated one is taken" if float(result["value"].get("rotation") or 0) % 360 else None
    )
