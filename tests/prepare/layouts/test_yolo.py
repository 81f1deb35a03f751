import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from covidmm.errors import DataError
from covidmm.prepare.layouts.yolo import _box, read_folder
from covidmm.prepare.options import Options
from covidmm.prepare.pipeline import prepare

DATA = {"names": {0: "opacity", 3: "é"}, "train": "images/train", "val": "images/val"}
LINE = "3 0.5 0.5 0.25 0.1"


def write(tmp_path, make, labels, data=DATA, images=("train/a.png", "val/b.png")):
    for seed, name in enumerate(images):
        make.png(tmp_path / "images" / name, seed, 61, 47)
    for name, text in labels.items():
        path = tmp_path / "labels" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    (tmp_path / "data.yaml").write_text(data if isinstance(data, str) else yaml.safe_dump(data))
    return tmp_path


def folder_of(*arguments, **more):
    return read_folder(write(*arguments, **more), Options())


def test_boxes_count_in_pixels_of_odd_pictures(tmp_path, make):
    raw = write(tmp_path / "raw", make, {"train/a.txt": f"{LINE}\n\n0.0 0.25 0.25 0.5 0.5\n"})
    summary = prepare("yolo", raw, tmp_path / "out", Options(workers=1, progress=False))
    assert summary.skipped.total == 0
    content = json.loads((tmp_path / "out/annotations/train.json").read_text())
    assert [one["bbox"] for one in content["annotations"]] == [
        pytest.approx([0.375 * 47, 0.45 * 61, 0.25 * 47, 0.1 * 61], abs=1e-3),
        pytest.approx([0, 0, 0.5 * 47, 0.5 * 61], abs=1e-3),
    ]
    assert [one["name"] for one in content["categories"]] == ["opacity", "é"]
    val = json.loads((tmp_path / "out/annotations/val.json").read_text())
    assert (len(val["images"]), val["annotations"]) == (1, [])


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=9))
def test_a_polygon_becomes_its_bounding_box(points):
    texts = ["7", *(repr(value) for point in points for value in point)]
    (x, y, width, height), label, _, _, shares = _box(texts, {7: 2})
    across, down = zip(*points, strict=True)
    assert (label, shares) == (2, True)
    assert (x, y) == (min(across), min(down))
    assert (x + width, y + height) == pytest.approx((max(across), max(down)))


def test_a_polygon_is_noted(tmp_path, make):
    raw = write(tmp_path / "raw", make, {"train/a.txt": "0 0.1 0.1 0.5 0.1 0.5 0.6\n" + LINE})
    assert read_folder(raw, Options()).samples["a"].boxes[0].box == pytest.approx((0.1, 0.1, 0.4, 0.5))
    prepare("yolo", raw, tmp_path / "out", Options(workers=1, progress=False))
    assert (tmp_path / "out/notes.csv").read_text().splitlines()[1:] == [
        "labels/train/a.txt,labels,1 polygons became their bounding boxes"
    ]


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("1 0.5 0.5 0.1 0.1", "1 is none of data.yaml"),
        ("x 0.5 0.5 0.1 0.1", "could not convert"),
        ("0.5 0.5 0.5 0.1 0.1", "0.5 is none of data.yaml"),
        ("0 0.5 0.5 0.1", "got 4 values"),
        ("0 0.5 0.5 0.1 0.1 0.9", "got 6 values"),
        ("0 20 30 10 10", "expected shares of the image"),
        ("0 0.5 0.5 40 0.1", "expected shares of the image"),
        ("0 0.5 0.5 -0.1 0.1", "expected shares of the image"),
        ("0 nan 0.5 0.1 0.1", "not finite"),
    ],
)
def test_an_image_with_a_bad_line_is_not_used(tmp_path, make, line, cause):
    folder = folder_of(tmp_path, make, {"train/a.txt": f"{LINE}\n{line}", "val/b.txt": LINE})
    assert list(folder.samples) == ["b"]
    (issue,) = folder.skipped
    assert issue.file == "labels/train/a.txt"
    assert issue.field.endswith("(line 2)")
    assert not folder.left_out, "it is listed already"
    assert cause in issue.cause


def test_a_label_file_that_is_no_text_is_listed(tmp_path, make):
    folder = folder_of(tmp_path, make, {"train/a.txt": b"\xff\xfe\xff", "val/b.txt": LINE})
    assert (list(folder.samples), [issue.field for issue in folder.skipped]) == (["b"], ["labels"])


def test_a_label_for_a_missing_image_is_listed(tmp_path, make):
    folder = folder_of(tmp_path, make, {"train/a.txt": LINE, "train/c.txt": LINE, "train/classes.txt": "opacity"})
    assert [(issue.file, issue.cause) for issue in folder.skipped] == [
        ("labels/train/c.txt", "there is no image of this name in a split")
    ]


@pytest.mark.parametrize("listed", ["./images/train/a.png", "images/train/a.png", "/elsewhere/images/train/a.png"])
def test_splits_may_be_lists_and_several_folders(tmp_path, make, listed):
    (tmp_path / "train.txt").write_text(listed + "\n\nimages/missing.png\n")
    data = {
        "names": ["opacity", "x", "y", "z"],
        "path": "/elsewhere",
        "train": ["train.txt", "../images/more"],
        "val": "images/val",
    }
    images = ["train/a.png", "train/unused.png", "val/b.png", "more/ü.png"]
    folder = folder_of(tmp_path, make, {"train/a.txt": LINE, "more/ü.txt": LINE}, data, images)
    assert {name: sample.official for name, sample in folder.samples.items()} == {
        "a": "train",
        "b": "val",
        "ü": "train",
    }
    assert len(folder.samples["ü"].boxes) == 1
    assert [issue.field for issue in folder.skipped] == ["file_name (line 3, 'images/missing.png')"]
    assert sum(folder.left_out.values()) == 1


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        ({**DATA, "names": ["a", "a"]}, "two classes are called 'a'"),
        ({**DATA, "names": {0: "a", 1: "A"}}, "two classes are called 'a' and 'A'"),
        ({**DATA, "names": 3}, "names: expected a list"),
        ({"names": {0: "opacity"}}, "expected names, and train, val or test"),
        ({**DATA, "val": "images/none"}, "val: there is no 'images/none'"),
        ({**DATA, "val": "../../etc"}, "val: there is no '../../etc'"),
        ({**DATA, "val": 3}, "val: 3 is no folder"),
        ({**DATA, "val": "images/train"}, "images/train/a.png is in both train and val"),
        ({**DATA, "kpt_shape": [17, 3]}, "labels of keypoints are not read"),
        ("names: [", "cannot be read as YAML"),
    ],
)
def test_a_bad_data_yaml_is_an_error(tmp_path, make, data, cause):
    with pytest.raises(DataError, match=cause):
        folder_of(tmp_path, make, {"train/a.txt": LINE}, data)


def test_no_label_at_all_and_no_data_yaml_are_errors(tmp_path, make):
    with pytest.raises(DataError, match=r"no image has a label file, such as labels/train/a\.txt"):
        folder_of(tmp_path, make, {}, {**DATA, "names": ["a"]})
    (tmp_path / "data.yaml").unlink()
    with pytest.raises(DataError, match=r"no data\.yaml"):
        read_folder(tmp_path, Options())
