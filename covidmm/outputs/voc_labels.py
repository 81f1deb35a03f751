"""Boxes as Pascal VOC has them: ``Annotations/*.xml``, ``JPEGImages/*.png`` and ``ImageSets/Main/SPLIT.txt``.

Corners are VOC's: pixels counted from 1, the last one included; with decimals where a box has them. Crowds are
difficult objects.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from covidmm.datasets.annotated_image import AnnotatedImage
from covidmm.datasets.prepared_folder import PreparedFolder
from covidmm.outputs.exported_images import (
    categories_of,
    copy_picture,
    every_box,
    notes_of,
    require_boxes,
    unique_stems,
    used_splits,
)


def write_voc(data: PreparedFolder, folder: Path, name: Path) -> list[str]:
    """Fill a folder with images, an XML file for each, and the lists of splits.

    Args:
        data: what is written.
        folder: an empty folder.
        name: what it will be called, for ``folder`` of the XML files.

    Returns:
        What was written or changed.

    Raises:
        DataError: there is no box at all, splits have different classes, or a picture is missing or of another size.
    """
    require_boxes(data)
    splits, categories = used_splits(data), categories_of(data)
    stems, cut = unique_stems(data.images), 0
    for part in ("Annotations", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    for split, one in splits.items():
        for image in one.images:
            stem = stems[image.path]
            copy_picture(image, folder / "JPEGImages" / f"{stem}.png")
            root, far = annotation_xml(image, f"{stem}.png", name.name, categories)
            cut += far
            ElementTree.indent(root)
            target = folder / "Annotations" / f"{stem}.xml"
            target.write_bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))
        lines = "".join(f"{stems[image.path]}\n" for image in one.images)
        (folder / "ImageSets/Main" / f"{split}.txt").write_text(lines, encoding="utf-8")
    return notes_of(splits, cut)


def annotation_xml(
    image: AnnotatedImage, picture: str, folder: str, categories: tuple[str, ...]
) -> tuple[ElementTree.Element, int]:
    """The XML of a picture, and how many boxes were cut."""
    root = ElementTree.Element("annotation")
    _texts(root, folder=folder, filename=picture)
    height, width = image.size
    _texts(ElementTree.SubElement(root, "size"), width=width, height=height, depth=1)
    _texts(root, segmented=0)
    boxes, cut = every_box(image)
    for (x1, y1, x2, y2), label, crowd in boxes:
        one = ElementTree.SubElement(root, "object")
        _texts(one, name=categories[label], pose="Unspecified", truncated=0, difficult=int(crowd))
        corners = {"xmin": x1 + 1, "ymin": y1 + 1, "xmax": x2, "ymax": y2}
        texts = {side: f"{value:.4f}".rstrip("0").rstrip(".") for side, value in corners.items()}
        _texts(ElementTree.SubElement(one, "bndbox"), **texts)
    return root, cut


def _texts(parent: ElementTree.Element, **values: object) -> None:
    for name, value in values.items():
        ElementTree.SubElement(parent, name).text = str(value)
