"""Predictions for other programs, read back as those read them."""

import csv
import json
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO

from covidmm.commands.ensemble_command import EXPORTS
from covidmm.datasets.annotated_image import AnnotatedImage
from covidmm.errors import DataError
from covidmm.outputs.prediction_export import PREDICTION_LAYOUTS, PredictedImage, export_predictions
from covidmm.prepare.layouts.voc import _box as voc_box
from covidmm.prepare.layouts.voc import read_xml
from covidmm.prepare.task_regions import read_results

CLASSES = ("opacity", "Nodule/Mass <図>")
SIZE = (3, 4001)  # height, width
SHARES = st.floats(0, 1, width=32)


def predicted(name, boxes, labels, scores):
    image = AnnotatedImage(
        Path("/raw") / name, name, name, np.array(boxes, float).reshape(-1, 4), np.array(labels, int),
        size=SIZE, coco={"file_name": name},
    )  # fmt: skip
    return PredictedImage(image, np.array(scores, np.float32))


@st.composite
def images(draw):
    found = []
    for name in ("images/a.png", "图 b/c.dcm", "empty.dcm"):
        count = 0 if name.startswith("empty") else draw(st.integers(0, 4))
        low = [[draw(SHARES) * SIZE[1] * 0.9, draw(SHARES) * (SIZE[0] - 1)] for _ in range(count)]
        # no thinner than a pixel: VOC counts whole ones
        boxes = [[x, y, min(x + 1 + draw(SHARES) * 500, SIZE[1]), SIZE[0]] for x, y in low]
        labels, scores = [draw(st.integers(0, 1)) for _ in low], [draw(SHARES) for _ in low]
        found.append(predicted(name, boxes, labels, scores))
    return found


def read_coco(folder):
    with_names = COCO(str(folder / "predictions.json"))
    names = {one["id"]: one["name"] for one in with_names.dataset["categories"]}
    for image in with_names.dataset["images"]:
        assert (image["height"], image["width"]) == SIZE
        for one in with_names.imgToAnns[image["id"]]:
            x, y, width, height = one["bbox"]
            yield image["file_name"], names[one["category_id"]], (x, y, x + width, y + height), one["score"]


def read_yolo(folder):
    names = yaml.safe_load((folder / "data.yaml").read_text())["names"]
    for path in (folder / "labels").rglob("*.txt"):
        name = path.relative_to(folder / "labels").with_suffix("").as_posix()
        for line in path.read_text().splitlines():
            label, x, y, width, height, score = map(float, line.split())
            box = (
                (x - width / 2) * SIZE[1],
                (y - height / 2) * SIZE[0],
                (x + width / 2) * SIZE[1],
                (y + height / 2) * SIZE[0],
            )
            yield {"a": "images/a.png"}.get(name, f"{name}.dcm"), names[int(label)], box, score


def read_voc(folder):
    for path in (folder / "Annotations").glob("*.xml"):
        root = read_xml(path)
        for one in root.iterfind("object"):
            x, y, width, height = voc_box(one.find("bndbox"))
            yield (
                root.findtext("filename"),
                one.findtext("name"),
                (x, y, x + width, y + height),
                float(one.findtext("score")),
            )


def read_table(folder):
    with (folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["class"]:
                yield (
                    row["image"],
                    row["class"],
                    [float(row[key]) for key in ("x1", "y1", "x2", "y2")],
                    float(row["score"]),
                )


def read_label_studio(folder):
    for task in json.loads((folder / "tasks.json").read_text()):
        (prediction,) = task["predictions"]
        for result in prediction["result"]:
            assert (result["original_height"], result["original_width"]) == SIZE
            (read,) = read_results("covidmm", [result], SIZE, Counter(), lambda _: nullcontext()).boxes
            x, y, width, height = read.box.box
            (label,) = result["value"]["rectanglelabels"]
            yield task["data"]["image"], label, (x, y, x + width, y + height), result["score"]


READERS = {
    "coco": read_coco,
    "yolo": read_yolo,
    "voc": read_voc,
    "table": read_table,
    "label-studio": read_label_studio,
}


def test_the_command_names_every_layout():
    assert tuple(PREDICTION_LAYOUTS) == EXPORTS == tuple(READERS)


@pytest.mark.parametrize("layout", EXPORTS)
@settings(max_examples=20, deadline=None)
@given(images())
def test_what_is_read_back_is_what_was_found(layout, found):
    with TemporaryDirectory() as folder:
        out = Path(folder) / "export"
        told = export_predictions(found, CLASSES, out, layout)
        read = sorted(READERS[layout](out), key=lambda one: (one[0], -one[3], one[2][0]))
    boxes = sum(len(one.scores) for one in found)
    assert f"{boxes} boxes on 3 images" in told
    expected = [
        (one.name, CLASSES[label], box, score)
        for one in found
        for label, box, score in zip(one.image.labels, one.image.boxes.tolist(), one.scores.tolist(), strict=True)
    ]
    expected.sort(key=lambda one: (one[0], -round(one[3], 6), one[2][0]))
    assert len(read) == len(expected)
    for one in expected:
        near = [own for own in read if own[:2] == one[:2] and own[2] == pytest.approx(one[2], abs=1e-3)]
        assert any(own[3] == pytest.approx(one[3], abs=1e-6) for own in near), one


def test_a_folder_of_others_is_left_alone_and_an_earlier_export_replaced(tmp_path):
    one = [predicted("a.png", [[0, 0, 2, 2]], [0], [0.5])]
    export_predictions(one, CLASSES, tmp_path / "out", "coco")
    export_predictions(one, CLASSES, tmp_path / "out", "table")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {".covidmm-export", "predictions.csv"}
    (tmp_path / "out/mine.txt").touch()
    with pytest.raises(DataError, match=r"holds 'mine\.txt'"):
        export_predictions(one, CLASSES, tmp_path / "out", "coco")
    assert (tmp_path / "out/predictions.csv").is_file()
