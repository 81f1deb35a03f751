import json
import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from covidmm.errors import DataError
from covidmm.prepare.layouts import LAYOUTS, layout_title
from covidmm.prepare.layouts.label_studio import _box, read_folder
from covidmm.prepare.options import Options

SIZE = {"original_width": 200, "original_height": 100, "image_rotation": 0}


def shape(kind="rectanglelabels", label="opacity", rotation=0, **value):
    value = value or {"x": 10, "y": 20, "width": 30, "height": 40}
    return {**SIZE, "type": kind, "value": {**value, "rotation": rotation, kind: [label]}}


def task(number, name, *results, annotations=None, **more):
    annotations = [{"completed_by": 1, "result": list(results)}] if annotations is None else annotations
    return {"id": number, "data": {"image": name}, "annotations": annotations, **more}


def read(tmp_path, make, *tasks, images=("a",)):
    for seed, name in enumerate(images):
        make.png(tmp_path / "images" / f"{name}.png", seed)
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    return read_folder(tmp_path, Options())


def test_percent_become_pixels_and_choices_labels_of_the_image(tmp_path, make):
    choice = {"type": "choices", "value": {"choices": ["bad quality"]}}
    folder = read(tmp_path, make, task(5, "/data/upload/1/ab12cd34-a.png", shape(), choice, shape(label="nodule")))
    assert folder.categories == ("bad quality", "nodule", "opacity")
    (sample,) = folder.samples.values()
    assert [one[:3] for one in sample.boxes] == [((20, 20, 60, 40), 2, False), ((20, 20, 60, 40), 1, False)]
    assert sample.classes == ("opacity", "nodule", "bad quality")
    assert (sample.size, sample.extra) == ((100, 200), {"label_studio_id": 5})
    assert not folder.skipped
    assert not folder.notes


@pytest.mark.parametrize(
    "place",
    [
        "/data/upload/12/0123abcd-a.png",
        "/data/local-files/?d=images/a.png",
        "/data/local-files/?d=set%2Fimages%2Fa.png",
        "s3://bucket/images/a.png",
        "https://example.org/x/a.png?sig=1",
        "a.png",
        "images\\a.png",
    ],
)
def test_images_are_found_however_they_were_imported(tmp_path, make, place):
    folder = read(tmp_path, make, task(1, place, shape()), task(2, "b.png"), images=("a", "b"))
    assert {sample.source.name for sample in folder.samples.values()} == {"a.png", "b.png"}


@given(
    st.tuples(*[st.floats(0, 60)] * 2, *[st.floats(1, 40)] * 2),
    st.floats(-180, 360),
)
def test_a_rectangle_turns_around_its_upper_left_corner(numbers, angle):
    """In pixels, not in percent: the image is no square."""
    x, y, width, height = numbers
    left, top, across, along = x * 2, y, width * 2, height
    turn = math.radians(angle)
    centre = np.array([left, top]) + np.array(
        [
            across / 2 * math.cos(turn) - along / 2 * math.sin(turn),
            across / 2 * math.sin(turn) + along / 2 * math.cos(turn),
        ]
    )
    corners = cv2.boxPoints((tuple(centre), (across, along), angle))
    low, high = corners.min(0), corners.max(0)
    found = _box(shape(rotation=angle, x=x, y=y, width=width, height=height), (100, 200))
    assert found == pytest.approx((*low, *(high - low)), abs=0.01)


def test_other_shapes_are_enclosed_or_left_out_and_said(tmp_path, make):
    results = (
        shape("polygonlabels", points=[[10, 10], [20, 50], [5, 30]]),
        shape("ellipselabels", x=50, y=50, radiusX=10, radiusY=10),
        {**SIZE, "type": "keypointlabels", "value": {"x": 1, "y": 1, "keypointlabels": ["opacity"]}},
        shape(rotation=90),
    )
    folder = read(tmp_path, make, task(5, "a.png", *results))
    (sample,) = folder.samples.values()
    assert [one.box for one in sample.boxes] == [
        pytest.approx(box) for box in [(10, 10, 30, 40), (80, 40, 40, 20), (-20, 20, 40, 60)]
    ]
    assert [note.cause for note in folder.notes] == [
        "the box that encloses the polygon is taken",
        "the box that encloses the ellipse is taken",
        "has no box: left out",
        "the box that encloses the rotated one is taken",
    ]


def test_of_several_annotators_the_ground_truth_counts_else_all(tmp_path, make):
    one = {"completed_by": {"id": 4}, "result": [shape()]}
    other = {"completed_by": 9, "result": [shape(label="nodule")]}
    tasks = (
        task(1, "a.png", annotations=[one, {**other, "ground_truth": True}]),
        task(2, "b.png", annotations=[one, other, {"was_cancelled": True, "result": [shape(label="odd")]}]),
        task(3, "c.png", annotations=[{"was_cancelled": True, "result": []}], predictions=[{"result": []}]),
        task(4, "d.png", annotations=[{"result": []}]),
    )
    folder = read(tmp_path, make, *tasks, images="abcd")
    assert folder.categories == ("nodule", "opacity")
    found = {
        sample.source.stem: [(one.label, dict(one.extra)) for one in sample.boxes] for sample in folder.samples.values()
    }
    assert found == {"a": [(0, {})], "b": [(1, {"reader": 4}), (0, {"reader": 9})], "d": []}
    assert [(note.field, note.cause) for note in folder.notes] == [
        ("annotations", "1 tasks have no finished annotation and are not used, such as 3"),
        ("predictions", "those of 1 tasks are no labels: left out"),
        ("annotations", "1 images have those of several annotators, whose boxes are all kept, as 'reader'"),
    ]


@pytest.mark.parametrize(
    ("result", "field", "cause"),
    [
        (shape(x=10, y=20, width=-3, height=4), "width", "are no box"),
        (shape(x="10", y=20, width=3, height=4), "x", "expected percent of the image, got '10'"),
        ({**shape(), "original_width": 0}, "original_width", "expected the image's size"),
        ({**shape(), "image_rotation": 90}, "image_rotation", "turned image"),
        ({**SIZE, "type": "rectanglelabels", "value": {"x": 1}}, "rectanglelabels", "names no class"),
        (shape("polygonlabels", points=[[1, 2]]), "points", "three or more pairs"),
    ],
)  # fmt: skip
def test_an_image_with_an_unusable_result_is_not_used(tmp_path, make, result, field, cause):
    folder = read(tmp_path, make, task(1, "a.png", result), task(2, "b.png", shape()), images="ab")
    assert [sample.source.name for sample in folder.samples.values()] == ["b.png"]
    (issue,) = folder.skipped
    assert (issue.file, issue.field) == ("export.json", f"{field} (task 1, result 1)")
    assert cause in issue.cause


def test_a_missing_image_is_named_and_other_json_is_none_of_its(tmp_path, make):
    folder = read(tmp_path, make, task(1, "/data/upload/1/ab12cd34-gone.png", shape()), task(2, "a.png", shape()))
    assert [(one.field, one.cause) for one in folder.skipped] == [
        ("data (task 1)", "'/data/upload/1/ab12cd34-gone.png': no such image below " + f"{tmp_path.name}/")
    ]
    (tmp_path / "export.json").write_text(json.dumps([{"image": "a.png", "label": []}]))
    with pytest.raises(DataError, match="not JSON-MIN"):
        read_folder(tmp_path, Options())


def test_its_name_is_spelled_as_people_do():
    assert "label-studio" in LAYOUTS
    assert layout_title("label-studio") == "Label Studio's own export, JSON"
