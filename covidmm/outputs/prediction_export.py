"""Predicted boxes in other programs' layouts, to look at and to correct there: ``tools/ensemble.py --export``.

Labels alone: the pictures are those of the folder that was predicted, and are named by their paths in it. Boxes count
in pixels of these files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from covidmm.datasets.annotated_image import AnnotatedImage
from covidmm.outputs.exported_images import unique_stems
from covidmm.outputs.label_export import whole_folder
from covidmm.outputs.voc_labels import annotation_xml
from covidmm.outputs.yolo_labels import data_yaml, label_lines
from covidmm.utils.boxes import xywh
from covidmm.utils.csv_tables import csv_bytes
from covidmm.utils.fileio import json_bytes


@dataclass(frozen=True)
class PredictedImage:
    """What was found on one file.

    Attributes:
        image: its path in the folder as ``file_name`` of ``coco``, its size and the boxes.
        scores: (N,) of the boxes, the confidence.
    """

    image: AnnotatedImage
    scores: NDArray[np.float32]

    @property
    def name(self) -> str:
        """Path of the file below the folder."""
        return str(self.image.coco["file_name"])


def export_predictions(images: Sequence[PredictedImage], classes: Sequence[str], out: Path, layout: str) -> str:
    """Write predictions in one layout, whole or not at all; an earlier export there is replaced.

    Args:
        images: with their boxes.
        classes: names, by class index.
        out: the folder to make.
        layout: one of :data:`PREDICTION_LAYOUTS`.

    Returns:
        What was written, for people.

    Raises:
        DataError: ``out`` holds something else.
    """

    def fill(folder: Path, name: Path) -> list[str]:
        PREDICTION_LAYOUTS[layout](images, tuple(classes), folder, name)
        return [f"{sum(len(one.scores) for one in images)} boxes on {len(images)} images"]

    return whole_folder(out, fill)


def _coco(images: Sequence[PredictedImage], classes: tuple[str, ...], folder: Path, whole: Path) -> None:
    """``predictions.json``: COCO with a ``score`` of each annotation."""
    listed, annotations = [], []
    for number, one in enumerate(images, start=1):
        height, width = one.image.size
        listed.append({"id": number, "file_name": one.name, "width": width, "height": height})
        for box, label, score in zip(xywh(one.image.boxes), one.image.labels, one.scores, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": int(label) + 1,
                    "bbox": box.round(4).tolist(),
                    "area": round(float(box[2] * box[3]), 4),
                    "iscrowd": 0,
                    "score": round(float(score), 6),
                }
            )
    categories = [{"id": number, "name": name} for number, name in enumerate(classes, start=1)]
    content = {"images": listed, "annotations": annotations, "categories": categories}
    (folder / "predictions.json").write_bytes(json_bytes(content))


def _yolo(images: Sequence[PredictedImage], classes: tuple[str, ...], folder: Path, whole: Path) -> None:
    """``data.yaml``, and ``labels/...txt`` with the confidence as the sixth number, as Ultralytics saves them."""
    for one in images:
        lines = label_lines(one.image)[0]
        target = (folder / "labels" / one.name.removeprefix("images/")).with_suffix(".txt")
        target.parent.mkdir(parents=True, exist_ok=True)
        text = (f"{line} {score:.6f}\n" for line, score in zip(lines, one.scores.tolist(), strict=True))
        target.write_text("".join(text), encoding="utf-8")
    (folder / "data.yaml").write_text(data_yaml(whole, [], classes), encoding="utf-8")


def _voc(images: Sequence[PredictedImage], classes: tuple[str, ...], folder: Path, whole: Path) -> None:
    """``Annotations/*.xml``, each object with a ``score``, which VOC itself has no place for."""
    stems = unique_stems(one.image for one in images)
    (folder / "Annotations").mkdir()
    for one in images:
        root, _ = annotation_xml(one.image, one.name, "", classes)
        for entry, score in zip(root.iterfind("object"), one.scores.tolist(), strict=True):
            ElementTree.SubElement(entry, "score").text = f"{score:.6f}"
        ElementTree.indent(root)
        target = folder / "Annotations" / f"{stems[one.image.path]}.xml"
        target.write_bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def _table(images: Sequence[PredictedImage], classes: tuple[str, ...], folder: Path, whole: Path) -> None:
    """``predictions.csv``, a row for each box, and one without a class for an image without."""
    columns = ("image", "class", "x1", "y1", "x2", "y2", "score", "image_width", "image_height")
    rows: list[tuple[Any, ...]] = []
    for one in images:
        height, width = one.image.size
        boxes = zip(one.image.labels, one.image.boxes.round(4).tolist(), one.scores.tolist(), strict=True)
        own = [(classes[label], *box, round(score, 6)) for label, box, score in boxes] or [("", *[None] * 5)]
        rows += [(one.name, *row, width, height) for row in own]
    (folder / "predictions.csv").write_bytes(csv_bytes(columns, rows))


def _label_studio(images: Sequence[PredictedImage], classes: tuple[str, ...], folder: Path, whole: Path) -> None:
    """``tasks.json`` with predictions to import, for a labelling config with ``RectangleLabels`` named ``label``."""
    tasks = []
    for one in images:
        height, width = one.image.size
        results = []
        boxes = zip(xywh(one.image.boxes).tolist(), one.image.labels, one.scores.tolist(), strict=True)
        for (x, y, across, along), label, score in boxes:
            percent = {"x": x / width, "y": y / height, "width": across / width, "height": along / height}
            value = {key: round(100 * share, 8) for key, share in percent.items()}
            results.append(
                {
                    "type": "rectanglelabels",
                    "from_name": "label",
                    "to_name": "image",
                    "original_width": width,
                    "original_height": height,
                    "image_rotation": 0,
                    "score": round(score, 6),
                    "value": {**value, "rotation": 0, "rectanglelabels": [classes[label]]},
                }
            )
        prediction = {"model_version": "covidmm", "score": float(one.scores.max(initial=0)), "result": results}
        tasks.append({"data": {"image": one.name}, "predictions": [prediction]})
    (folder / "tasks.json").write_bytes(json_bytes(tasks))


#: By name: fills an empty folder, which will be called by the last argument.
PREDICTION_LAYOUTS: Mapping[str, Callable[[Sequence[PredictedImage], tuple[str, ...], Path, Path], None]] = {
    "coco": _coco,
    "yolo": _yolo,
    "voc": _voc,
    "table": _table,
    "label-studio": _label_studio,
}
