"""Text labels of YOLO, read back as Ultralytics does."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from covidmm.errors import DataError
from covidmm.outputs.label_export import MARKER, export

SIZES = {"train": (101, 67), "val": (33, 240)}
BOXES = {"train": [[0.5, 3.25, 41.125, 20], [60, 30, 41, 37]], "val": []}


def prepared(folder, change=lambda content: content):
    """Two splits of one picture of odd size each, the second without a box."""
    for number, (split, (width, height)) in enumerate(SIZES.items(), start=1):
        name = f"study{number}/image{number}.png"
        path = folder / "images" / name
        path.parent.mkdir(parents=True)
        Image.new("L", (width, height), number).save(path)
        image = {"id": number, "file_name": name, "width": width, "height": height, "original_width": 2 * width}
        image |= {"original_height": height, "image_id": f"image{number}", "study_id": "s", "study_class": None}
        boxes = [
            {"id": 10 * number + k, "image_id": number, "category_id": 5 - k, "bbox": box, "area": 9}
            for k, box in enumerate(BOXES[split])
        ]
        content = {
            "images": [image | {"fold": 0, "patient": None}],
            "annotations": boxes,
            "categories": [{"id": 4, "name": "opacity: dense"}, {"id": 5, "name": "é"}],
        }
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / "annotations" / f"{split}.json").write_text(json.dumps(change(content)))
    return folder


def labels_of(picture):
    """As Ultralytics finds them: 'labels' for the last 'images' of the path."""
    path = "/labels/".join(str(picture).rsplit("/images/", 1)).rsplit(".", 1)[0] + ".txt"
    return np.array([line.split() for line in Path(path).read_text().splitlines()], np.float64).reshape(-1, 5)


def test_every_picture_has_its_labels_to_the_pixel(tmp_path):
    said = export(prepared(tmp_path / "data"), tmp_path / "out", "yolo")
    assert "note: train: 1 images, 2 boxes" in said
    content = yaml.safe_load((tmp_path / "out" / "data.yaml").read_text(encoding="utf-8"))
    assert content == {
        "path": str(tmp_path / "out"),
        "train": "images/train",
        "val": "images/val",
        "names": {0: "opacity: dense", 1: "é"},
    }
    for number, (split, (width, height)) in enumerate(SIZES.items(), start=1):
        (picture,) = (tmp_path / "out" / content[split]).rglob("*.png")
        assert picture.read_bytes() == (tmp_path / f"data/images/study{number}/image{number}.png").read_bytes()
        found = labels_of(picture)
        assert found[:, 0].tolist() == [1, 0][: len(BOXES[split])]
        x, y, sides = found[:, 1] * width, found[:, 2] * height, found[:, 3:] * [width, height]
        boxes = np.stack([x - sides[:, 0] / 2, y - sides[:, 1] / 2, *sides.T], axis=1)
        assert boxes == pytest.approx(np.array(BOXES[split], float).reshape(-1, 4), abs=1e-4)
        assert ((found[:, 1:] >= 0) & (found[:, 1:] <= 1)).all()


def test_an_export_is_replaced_and_anything_else_is_left_alone(tmp_path):
    data = prepared(tmp_path / "data")
    for _ in range(2):
        export(data, tmp_path / "out", "yolo")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [MARKER, "data.yaml", "images", "labels"]
    (tmp_path / "out" / "notes.txt").touch()
    with pytest.raises(DataError, match=r"out: holds 'notes\.txt'"):
        export(data, tmp_path / "out", "yolo")
    with pytest.raises(DataError, match="data: holds 'annotations'"):
        export(data, data, "yolo")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out"]


def with_crowd_and_edge(content):
    for one in content["annotations"][:1]:
        one["iscrowd"] = 1
    for one in content["annotations"][1:]:
        one["bbox"] = [60, 30, 60, 37]
    return content


@pytest.mark.filterwarnings("ignore:.*reach over the edge")
def test_what_is_cut_or_left_out_is_said(tmp_path):
    said = export(prepared(tmp_path / "data", with_crowd_and_edge), tmp_path / "out", "yolo")
    assert "1 boxes reached over the edge" in said
    assert "1 crowds were left out" in said
    (line,) = labels_of(tmp_path / "out/images/train/study1/image1.png")
    assert line[1] + line[3] / 2 == pytest.approx(1)


def without_boxes(content):
    return {**content, "annotations": []}


def of_other_classes(content):
    return {**content, "categories": content["categories"][:: 1 if content["annotations"] else -1]}


@pytest.mark.parametrize(
    ("change", "cause"), [(without_boxes, "has no box"), (of_other_classes, "splits have different categories")]
)
def test_what_cannot_be_said_in_labels_is_refused(tmp_path, change, cause):
    with pytest.raises(DataError, match=cause):
        export(prepared(tmp_path / "data", change), tmp_path / "out", "yolo")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_picture_of_another_size_leaves_nothing_behind(tmp_path):
    data = prepared(tmp_path / "data")
    Image.new("L", (9, 9)).save(data / "images/study2/image2.png")
    with pytest.raises(DataError, match=r"image2\.png: is 9 x 9 pixels, its boxes count in 33 x 240"):
        export(data, tmp_path / "out", "yolo")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
