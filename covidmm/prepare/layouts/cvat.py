"""CVAT for images 1.1, CVAT's own XML.

``RAW/**/*.xml`` of tasks, jobs or projects, and images in any folder, ``images/SUBSET/NAME`` or ``images/NAME`` as
exported. Subsets called after splits give their images that split. Polygons, masks, ellipses and turned boxes become
the upright boxes around them; a box with an attribute ``ignore``, ``crowd``, ``is_crowd`` or ``difficult`` that is set
becomes a region to ignore; tags are labels of whole images. See https://docs.cvat.ai/docs/other/xml_format.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from covidmm.errors import DataError
from covidmm.prepare.box_values import (
    FORMS,
    around,
    around_ellipse,
    box_of,
    flag,
    is_ignore,
    numbers,
    require_pixels,
    turned,
)
from covidmm.prepare.labelled_images import LabelledImage, LabelledImages, split_called
from covidmm.prepare.named_labels import NamedBox, NamedLabels, cleaned, taken
from covidmm.prepare.options import Options
from covidmm.prepare.samples import Box, Issue, LabelledBox, LabelledFolder
from covidmm.prepare.xml_files import read_xml

#: Labels of these types have no boxes.
_NO_BOX = ("tag", "points", "polyline", "skeleton", "cuboid")
#: What CVAT writes for a choice that nobody made.
_UNSET = "__undefined__"
_EDGES = ("xtl", "ytl", "xbr", "ybr")
#: What becomes of shapes, for notes.
_CHANGED = {
    "polygon": "polygons became the boxes around them",
    "mask": "masks became the boxes around them",
    "ellipse": "ellipses became the boxes around them",
}
_TURNED = "turned boxes became the upright boxes around them"


class _File(NamedTuple):
    """What a file says of all its images."""

    path: Path
    root: ElementTree.Element
    name: str
    labels: dict[str, bool]
    """Each name, and whether boxes may be of it; empty where the file has no list."""
    tasks: Mapping[str | None, str]
    """Names of tasks, by the id that images have; None: of the only one."""


def read_folder(raw: Path, options: Options) -> LabelledFolder:
    """Read every CVAT file below a folder, and find its images.

    Classes are in the order of the files' lists of labels. An image with an element that cannot be used is not used.

    Raises:
        DataError: there is no CVAT file, one is damaged or of a video, or two classes are called the same but for case
            or spaces.
    """
    found = LabelledImages(raw, options)
    files = [file for path in sorted(raw.rglob("*.xml")) if path.name[0] != "." and (file := _file(path, found))]
    if not files:
        raise DataError(f"{raw}: no CVAT file in it: .xml with annotations")
    declared: dict[str, bool] = {}
    for file in files:
        for name, boxable in file.labels.items():
            declared[name] = boxable or declared.get(name, False)
    read = [one for file in files for entry in file.root.iterfind("image") if (one := _image(file, entry, found))]
    for name in sorted({name for one in read for name in one.names}):
        declared.setdefault(name, True)  # of a file without a list
    return taken(found, read, list(declared.items()))


def _file(path: Path, found: LabelledImages) -> _File | None:
    """A CVAT file; None of other XML files.

    Raises:
        DataError: it is damaged, or of a video.
    """
    name = found.name(path)
    try:
        root = read_xml(path)
    except ValueError as error:
        raise DataError(f"{path}: {str(error).removeprefix('xml: ')}") from error
    if root.tag != "annotations":
        return None
    if root.find("track") is not None:
        raise DataError(
            f"{path}: has tracks of a video; export it as 'CVAT for images 1.1', which has its frames one by one"
        )
    labels: dict[str, bool] = {}
    for entry in root.iterfind("meta//labels/label"):
        label = cleaned(entry.findtext("name") or "")
        if entry.findtext("parent"):
            continue  # a part of a skeleton
        if not label or label in labels:
            raise DataError(f"{path}: meta: {f'two labels are called {label!r}' if label else 'a label has no name'}")
        labels[label] = entry.findtext("type") not in _NO_BOX
    tasks: dict[str | None, str] = {
        entry.findtext("id"): cleaned(entry.findtext("name") or "") for entry in root.iterfind("meta//task")
    }
    if len(tasks) == 1:
        tasks[None] = next(iter(tasks.values()))
    return _File(path, root, name, labels, tasks)


def _image(file: _File, entry: ElementTree.Element, found: LabelledImages) -> NamedLabels | None:
    """What a file says of an image; None where that cannot be used."""
    where = f"image {entry.get('id')} {entry.get('name')!r}"
    before = len(found.skipped)
    source: Path | None = None
    with found.reading(file.name, where):
        source = _source(file, entry, found)
        split = _split(file, entry, found)
        task = file.tasks.get(entry.get("task_id"))
        ids = {f"cvat_{key}": entry.get(key) for key in ("id", "task_id") if entry.get(key)}
        extra = {**ids, **({"task": task} if task else {})}
        image = LabelledImage(source, file.name, size=_size(entry), split=split, extra=extra)
        labels = NamedLabels(image, where)
    if source is None:
        return None
    places: dict[str, int] = {}
    for element in entry:
        places[element.tag] = places.get(element.tag, 0) + 1
        with found.reading(file.name, f"{where}, {element.tag} {places[element.tag]}"):
            _take(element, file, labels)
    if len(found.skipped) > before:
        found.refuse(source)
        return None
    return labels


def _source(file: _File, entry: ElementTree.Element, found: LabelledImages) -> Path:
    name = entry.get("name", "")
    if not name.strip():
        raise ValueError("name: is empty")
    if subset := entry.get("subset"):
        with suppress(ValueError):
            return found.files.find(f"{subset}/{name}", file.path.parent)
    return found.files.find(name, file.path.parent)


def _split(file: _File, entry: ElementTree.Element, found: LabelledImages) -> str | None:
    """The split of an image by its subset; of one called otherwise, such as ``default``, none, which is said once."""
    subset = entry.get("subset")
    split = split_called(subset or "")
    if subset and not split:
        note = Issue(file.name, f"subset {subset!r}", "is no split: expected train, val, validation or test")
        if note not in found.notes:
            found.notes.append(note)
    return split


def _size(entry: ElementTree.Element) -> tuple[int, int] | None:
    sides = {side: entry.get(side, "") for side in ("height", "width")}
    if not any(sides.values()):
        return None
    height, width = numbers(sides)
    return int(height), int(width)


def _take(element: ElementTree.Element, file: _File, labels: NamedLabels) -> None:
    """Take a tag or a shape."""
    name = cleaned(element.get("label", ""))
    if not name:
        raise ValueError("label: is empty")
    if file.labels and name not in file.labels:
        raise ValueError(f"label: {name!r} is none of the file's labels: {', '.join(file.labels)}")
    if element.tag == "tag":
        labels.labels.append(name)
    elif element.get("outside") == "1":
        labels.changes["shapes were left out that are outside of the picture"] += 1
    elif element.tag == "box" or element.tag in _CHANGED:
        texts = {one.get("name", ""): (one.text or "").strip() for one in element.iterfind("attribute")}
        crowd = any(flag(key, text) for key, text in texts.items() if is_ignore(key) and text != _UNSET)
        degrees = _rotation(element)
        box = _box(element, degrees)
        if element.tag == "box" and degrees:
            labels.changes[_TURNED] += 1
        elif element.tag != "box":
            labels.changes[_CHANGED[element.tag]] += 1
        labels.boxes.append(NamedBox(name, LabelledBox(box, crowd=crowd, extra=_extra(element, texts, degrees))))
    else:
        labels.unboxed.append(name)
        labels.changes[f"marks ({element.tag}) of {name!r} were left out, which have no box"] += 1


def _rotation(element: ElementTree.Element) -> float:
    """Degrees clockwise, about the centre."""
    return numbers({"rotation": element.get("rotation", "0")})[0] % 360


def _box(element: ElementTree.Element, degrees: float) -> Box:
    """The box of a shape, or around it, in pixels."""
    if element.tag == "polygon":
        pairs = [pair.split(",") for pair in element.get("points", "").split(";")]
        if any(len(pair) != 2 for pair in pairs):
            raise ValueError(f"points: expected x,y;x,y;..., got {element.get('points', '')[:40]!r}")
        points = [numbers({"x": x, "y": y}) for x, y in pairs]
        for x, y in points:
            require_pixels((x, y, 0, 0))
        return around((x, y) for x, y in points)
    if element.tag == "mask":
        values = numbers({key: element.get(key, "") for key in ("left", "top", "width", "height")})
        require_pixels(values)
        return box_of(values, FORMS[1])
    if element.tag == "ellipse":
        x, y, *radii = numbers({key: element.get(key, "") for key in ("cx", "cy", "rx", "ry")})
        require_pixels((x, y, *radii))
        return around_ellipse((x, y), (radii[0], radii[1]), degrees)
    values = numbers({key: element.get(key, "") for key in _EDGES})
    require_pixels(values)
    x, y, width, height = box = box_of(values, FORMS[0])
    return turned(box, degrees, (x + width / 2, y + height / 2)) if degrees else box


def _extra(element: ElementTree.Element, texts: Mapping[str, str], degrees: float) -> dict[str, Any]:
    """What else a shape says, under the keys that CVAT gives it in COCO files."""
    values = {"true": True, "false": False}
    attributes: dict[str, Any] = {key: values.get(text, text) for key, text in texts.items()}
    if element.get("occluded") == "1":
        attributes["occluded"] = True
    if degrees:
        attributes["rotation"] = degrees
    if (order := element.get("z_order", "0")) != "0":
        attributes["z_order"] = int(numbers({"z_order": order})[0])
    if group := element.get("group_id"):
        attributes["group_id"] = group
    if (source := element.get("source", "manual")) != "manual":
        attributes["source"] = source
    return {"attributes": attributes} if attributes else {}
