"""CVAT's own export of images, CVAT for images 1.1.

``RAW/**/*.xml`` with images in any folder, found by the names that CVAT gives them. Classes are in the order of the
task's labels, those without a box included; tags are labels of whole images. Beyond what CVAT writes as COCO it keeps
the ids of images and tasks, subsets as splits, and the attributes of boxes; one called ``ignore`` or ``is_crowd`` makes
a region to ignore. Of rotated boxes, polygons, masks and ellipses the enclosing box is taken, which the notes say.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import cos, hypot, radians, sin
from pathlib import Path
from xml.etree import ElementTree

from covidmm.errors import DataError
from covidmm.prepare.box_values import FORMS, box_of, numbers, require_pixels
from covidmm.prepare.labelled_images import LabelledImage, LabelledImages, split_called
from covidmm.prepare.options import Options
from covidmm.prepare.samples import Box, Issue, LabelledBox, LabelledFolder
from covidmm.prepare.xml_files import read_xml

#: Shapes with an extent; lines, points, cuboids and skeletons have none that is a box.
_SHAPES = ("box", "polygon", "mask", "ellipse")
_OTHERS = ("polyline", "points", "cuboid", "skeleton")
_IGNORED = ("ignore", "ignored", "crowd", "iscrowd", "is_crowd")


def read_folder(raw: Path, options: Options) -> LabelledFolder:
    """Read every CVAT file below a folder, and find its images. An image with a shape that cannot be used is not used.

    Raises:
        DataError: there is no CVAT file, or two labels are called the same but for case or spaces.
    """
    found = LabelledImages(raw, options)
    read: list[tuple[Path, ElementTree.Element]] = []
    for path in sorted(raw.rglob("*.xml")):
        if path.name.startswith("."):
            continue
        with found.reading(found.name(path), "file"):
            if (root := read_xml(path)).tag == "annotations":
                if root.find("track") is not None:
                    raise ValueError("track: is the export of a video; export the task as 'CVAT for images 1.1'")
                read.append((path, root))
    if not read and not found.skipped:
        raise DataError(f"{raw}: no file of CVAT in it: .xml with annotations")
    for path, root in read:
        for name in _labels(root):
            found.names.add(name, found.name(path))
    for path, root in read:
        for entry in root.iterfind("image"):
            with found.reading(found.name(path), f"image {entry.get('id')!r}"):
                _add(path, entry, found)
    return found.folder()


def _labels(root: ElementTree.Element) -> list[str]:
    """The labels of the task or project, in its order; of a file without these, those that are used."""
    listed = [label for label in root.iterfind("meta//labels/label") if label.find("parent") is None]
    names = [label.findtext("name") or "" for label in listed]
    return names or sorted({one.get("label", "") for image in root.iterfind("image") for one in image})


def _add(path: Path, entry: ElementTree.Element, found: LabelledImages) -> None:
    """Take an image with its shapes and tags."""
    source = found.files.find(entry.get("name", ""), path.parent)
    width, height = numbers({side: entry.get(side, "") for side in ("width", "height")})
    ids = {f"cvat_{key}": entry.get(key) for key in ("id", "task_id") if entry.get(key)}
    image = LabelledImage(source, found.name(path), size=(int(height), int(width)), extra=ids)
    image.split = split_called(entry.get("subset", ""))
    before = len(found.skipped)
    tags = []
    for place, shape in enumerate(entry, start=1):
        where = f"image {entry.get('id')!r}, {shape.tag} {place}"
        with found.reading(found.name(path), where):
            if shape.tag == "tag":
                tags.append(found.names.names[_label(shape, found)])
            elif shape.tag in _SHAPES:
                image.boxes.append(_labelled(shape, found))
                if how := _how_enclosed(shape):
                    found.notes.append(Issue(found.name(path), f"{shape.tag} ({where})", how))
            elif shape.tag in _OTHERS:
                cause = "is no box and has none around it: left out"
                found.notes.append(Issue(found.name(path), f"{shape.tag} ({where})", cause))
            else:
                raise ValueError(f"{shape.tag}: is no shape of CVAT's that is known here")
    image.findings = tuple(dict.fromkeys(tags))
    if len(found.skipped) > before:
        found.refuse(source)
    else:
        found.add(image)


def _label(shape: ElementTree.Element, found: LabelledImages) -> int:
    name = " ".join(shape.get("label", "").split())
    if name not in found.names.names:
        raise ValueError(f"label: {name!r} is no label of the task")
    return found.names.index(name)


def _labelled(shape: ElementTree.Element, found: LabelledImages) -> LabelledBox:
    attributes = {one.get("name", ""): (one.text or "").strip() for one in shape.iterfind("attribute")}
    if shape.get("occluded") == "1":
        attributes["occluded"] = "true"
    ignored = any(attributes.get(name, "").lower() in ("true", "1") for name in _IGNORED)
    extra = {"attributes": attributes} if attributes else {}
    return LabelledBox(_BOXES[shape.tag](shape), _label(shape, found), ignored, extra)


def _how_enclosed(shape: ElementTree.Element) -> str | None:
    if shape.tag != "box":
        return f"the box that encloses the {shape.tag} is taken"
    return "the box that encloses the rotated one is taken" if float(shape.get("rotation") or 0) % 180 else None


def _values(shape: ElementTree.Element, *names: str) -> list[float]:
    found = numbers({name: shape.get(name, "") for name in names})
    require_pixels(found)
    return found


def _angle(shape: ElementTree.Element) -> float:
    """In radians, clockwise around the centre."""
    return radians(numbers({"rotation": shape.get("rotation") or "0"})[0])


def _box(shape: ElementTree.Element) -> Box:
    x, y, width, height = box_of(_values(shape, "xtl", "ytl", "xbr", "ybr"), FORMS[0])
    angle = _angle(shape)
    if not angle:
        return x, y, width, height
    across = abs(width * cos(angle)) + abs(height * sin(angle))
    along = abs(width * sin(angle)) + abs(height * cos(angle))
    return box_of((x + width / 2, y + height / 2, across, along), FORMS[2])


def _ellipse(shape: ElementTree.Element) -> Box:
    x, y, a, b = _values(shape, "cx", "cy", "rx", "ry")
    angle = _angle(shape)
    across, along = hypot(a * cos(angle), b * sin(angle)), hypot(a * sin(angle), b * cos(angle))
    return box_of((x, y, 2 * across, 2 * along), FORMS[2])


def _mask(shape: ElementTree.Element) -> Box:
    return box_of(_values(shape, "left", "top", "width", "height"), FORMS[1])


def _polygon(shape: ElementTree.Element) -> Box:
    corners = list(_points(shape.get("points", "")))
    if len(corners) < 3:
        raise ValueError(f"points: {len(corners)} are no polygon")
    xs, ys = zip(*corners, strict=True)
    values = (min(xs), min(ys), max(xs), max(ys))
    require_pixels(values)
    return box_of(values, FORMS[0])


def _points(text: str) -> Iterator[tuple[float, float]]:
    for pair in filter(None, text.split(";")):
        x, _, y = pair.partition(",")
        yield tuple(numbers({"points": x, "points ": y}))


_BOXES = {"box": _box, "polygon": _polygon, "mask": _mask, "ellipse": _ellipse}
