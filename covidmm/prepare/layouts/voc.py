"""Pascal VOC: an XML file for each image.

``RAW/**/Annotations/*.xml`` and ``JPEGImages/``, or XML files beside their images. Where ``ImageSets/Main`` has
``train.txt``, ``val.txt``, ``trainval.txt`` or ``test.txt``, these are the splits. The corners are VOC's: pixels
counted from 1, the last one included, so that ``xmin`` 1 and ``xmax`` 10 are the ten leftmost pixels. Difficult
objects become regions to ignore.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from covidmm.errors import DataError
from covidmm.prepare.box_values import FORMS, box_of, numbers, require_pixels
from covidmm.prepare.labelled_images import LabelledImage, LabelledImages, split_called
from covidmm.prepare.options import Options
from covidmm.prepare.samples import Box, Issue, LabelledBox, LabelledFolder
from covidmm.prepare.xml_files import read_xml

CORNERS = ("xmin", "ymin", "xmax", "ymax")


class _Object(NamedTuple):
    name: str
    box: Box
    difficult: bool


def read_folder(raw: Path, options: Options) -> LabelledFolder:
    """Read every VOC file below a folder, and find its image: by the file's own name, else by its ``filename``.

    Classes are in the order of the alphabet. An image with an object that cannot be used is not used.

    Raises:
        DataError: there is no VOC file, two classes are called the same but for case or spaces, or two lists share an
            image.
    """
    found = LabelledImages(raw, options)
    read: list[tuple[Path, ElementTree.Element, list[_Object]]] = []
    for path in sorted(raw.rglob("*.xml")):
        if path.name.startswith("."):
            continue
        with found.reading(found.name(path), "file"):
            if (root := read_xml(path)).tag == "annotation":
                read.append((path, root, []))
    if not read and not found.skipped:
        raise DataError(f"{raw}: no VOC file in it: .xml with an annotation")
    usable = [(path, root, objects) for path, root, objects in read if _take(path, root, objects, found)]
    for name, path in sorted({one.name: path for path, _, objects in reversed(usable) for one in objects}.items()):
        found.names.add(name, found.name(path))
    lists = _Lists(found)
    for path, root, objects in usable:
        with found.reading(found.name(path), path.stem):
            image = LabelledImage(_image(path, root, found), found.name(path), size=_size(root))
            image.split = lists.split(path)
            image.boxes = [LabelledBox(one.box, found.names.index(one.name), one.difficult) for one in objects]
            found.add(image)
    lists.report_unused()
    return found.folder()


def _take(path: Path, root: ElementTree.Element, objects: list[_Object], found: LabelledImages) -> bool:
    """Fill in the objects of a file; whether all of them can be used."""
    before = len(found.skipped)
    for place, entry in enumerate(root.iterfind("object"), start=1):
        with found.reading(found.name(path), f"object {place}"):
            name = _text(entry, "name")
            if not name:
                raise ValueError("name: is empty")
            box = entry.find("bndbox")
            if box is None:
                raise ValueError("bndbox: there is none")
            objects.append(_Object(name, _box(box), _text(entry, "difficult") in ("1", "true")))
    if len(found.skipped) == before:
        return True
    with found.reading(found.name(path), path.stem):
        found.refuse(_image(path, root, found))
    return False


def _box(entry: ElementTree.Element) -> Box:
    left, top, right, bottom = values = numbers({name: _text(entry, name) for name in CORNERS})
    require_pixels(values)
    if right < left or bottom < top:
        raise ValueError(f"bndbox: is inverted: {' '.join(f'{value:g}' for value in values)}")
    return box_of((left - 1, top - 1, right, bottom), FORMS[0])


def _size(root: ElementTree.Element) -> tuple[int, int] | None:
    """Height and width; None where they are not given, which some programs write as 0."""
    size = root.find("size")
    if size is None:
        return None
    height, width = numbers({side: _text(size, side) or "0" for side in ("height", "width")})
    return (int(height), int(width)) if height > 0 and width > 0 else None


def _image(path: Path, root: ElementTree.Element, found: LabelledImages) -> Path:
    """The image of a VOC file."""
    near = path.parent, path.parent.parent / "JPEGImages", path.parent.parent / "images"
    try:
        return found.files.called(path.stem, *near)
    except ValueError:
        name = _text(root, "filename")
        if not name:
            raise
        return found.files.find(name, near[1])


def _text(entry: ElementTree.Element, name: str) -> str:
    return " ".join((entry.findtext(name) or "").split())


class _Lists:
    """The lists of ``ImageSets/Main`` of each VOC folder below RAW."""

    def __init__(self, found: LabelledImages) -> None:
        self._found = found
        self._splits: dict[Path, dict[str, str]] = {}
        for folder in sorted(found.raw.rglob("ImageSets/Main")):
            splits: dict[str, str] = {}
            for path in sorted(folder.glob("*.txt"), key=lambda one: (one.stem == "trainval", one.name)):
                split = split_called(path.stem)
                for name in _lines(path) if split else ():
                    if splits.setdefault(name, split) != split and split != "train_val":
                        raise DataError(f"{path}: {name!r} is in {splits[name]}.txt too")
            self._splits[folder.parent.parent] = splits

    def split(self, path: Path) -> str | None:
        """Of the image of a VOC file; None where no list of its folder has it."""
        return next((split for folder in path.parents if (split := self._splits.get(folder, {}).get(path.stem))), None)

    def report_unused(self) -> None:
        """List the names that no VOC file has."""
        there = {path.stem for path in self._found.raw.rglob("*.xml")}
        for root, splits in self._splits.items():
            for name in sorted(splits.keys() - there):
                where = f"{self._found.name(root / 'ImageSets/Main')}/{splits[name].replace('_', '')}.txt"
                self._found.skipped.append(Issue(where, f"name {name!r}", "there is no XML file of this name"))


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    return [line.strip() for line in lines if line.strip()]
