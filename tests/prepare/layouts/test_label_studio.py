import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from covidmm.errors import DataError
from covidmm.prepare.layouts.label_studio import read_folder
from covidmm.prepare.options import Options
from covidmm.prepare.task_regions import _box, _Region

SIZE = {"original_width": 48, "original_height": 60}
LEFT = {"x": 25, "y": 10, "width": 50, "height": 20}


def region(value=LEFT, names=("opacity",), kind="rectangle", key="r1", **more):
    value = {**value, "rotation": more.pop("rotation", 0), f"{kind}labels": list(names)}
    return {"id": key, "type": f"{kind}labels", "from_name": "label", "to_name": "image", "value": value} | SIZE | more


def choices(names, key="c1", place=None, name="about"):
    value = {**(place or {}), "choices": list(names)}
    return {"id": key, "type": "choices", "from_name": name, "to_name": "image", "value": value}


def annotation(*results, by=1, **more):
    return {"id": 100, "completed_by": by, "result": list(results), "was_cancelled": False, **more}


def task(*annotations, image="/data/upload/1/ab12cd34-a.png", number=5, **more):
    return {"id": number, "data": {"image": image}, "annotations": list(annotations), "predictions": [], **more}


def folder_of(tmp_path, make, *tasks, names=("a.png", "b.png"), readers="merge"):
    for seed, name in enumerate(names):
        make.png(tmp_path / name, seed)
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    return read_folder(tmp_path, Options(readers=readers))


def test_regions_choices_and_ignored_regions(tmp_path, make):
    folder = folder_of(
        tmp_path,
        make,
        task(
            annotation(
                region(),
                region(LEFT, ["nodule", "mass"], key="r2"),
                choices(["Crowd"], "r2", LEFT, "kind"),
                choices(["left"], "r1", LEFT, "side"),
                choices(["poor quality"]),
            )
        ),
        task(annotation(), image="b.png", number=6),
    )
    assert folder.categories == ("mass", "nodule", "opacity")
    a, b = folder.samples.values()
    assert [one[:3] for one in a.boxes] == [
        ((12, 6, 24, 12), 2, False),
        ((12, 6, 24, 12), 1, True),
        ((12, 6, 24, 12), 0, True),
    ]
    assert [one.extra for one in a.boxes[:2]] == [
        {"attributes": {"side": ["left"]}},
        {"attributes": {"kind": ["Crowd"]}},
    ]
    assert a.extra == {"label_studio_id": 5, "tags": ["poor quality"]}
    assert (a.size, b.size, b.boxes, b.classes) == ((60, 48), None, (), ("none of them",))
    assert not folder.skipped
    assert not folder.notes


def test_labels_beside_their_rectangle_and_sizes_that_are_not_given(tmp_path, make):
    place = {"id": "r1", "type": "rectangle", "value": LEFT}
    named = {"id": "r1", "type": "labels", "value": {**LEFT, "labels": ["x"]}}
    (sample,) = folder_of(tmp_path, make, task(annotation(place, named))).samples.values()
    assert [(one.box, one.shares) for one in sample.boxes] == [((0.25, 0.1, 0.5, 0.2), True)]


def test_shapes_become_boxes_and_that_is_said(tmp_path, make):
    ellipse = {"x": 50, "y": 50, "radiusX": 25, "radiusY": 10}
    folder = folder_of(
        tmp_path,
        make,
        task(
            annotation(
                region({"points": [[0, 0], [50, 5], [25, 50]]}, kind="polygon"),
                region(ellipse, kind="ellipse", key="r2"),
                region(key="r3", rotation=90),
                region({"x": 1, "y": 1, "width": 1}, ["carina"], "keypoint", "r4"),
                {"id": "t", "type": "textarea", "from_name": "note", "value": {"text": ["seen twice"]}},
                {"type": "relation", "from_id": "r2", "to_id": "r3"},
            ),
            predictions=[{"result": [region(key="p")]}],
        ),
    )
    (sample,) = folder.samples.values()
    assert [one.box for one in sample.boxes] == [
        (0, 0, 24, 30),
        pytest.approx((12, 24, 24, 12)),
        pytest.approx((0, 6, 12, 24)),  # about its corner, in pixels
    ]
    assert sorted(note.cause for note in folder.notes) == [
        "1 answers to 'note' about the whole image were left out",
        "1 ellipses became the boxes around them",
        "1 polygons became the boxes around them",
        "1 predictions of models were not read",
        "1 regions of 'carina' were left out, which have no box",
        "1 turned boxes became the upright boxes around them",
    ]


@given(st.tuples(*[st.floats(0, 100)] * 4), st.floats(0.5, 359.5), st.tuples(*[st.integers(100, 3000)] * 2))
def test_a_turned_region_is_turned_in_pixels_about_its_corner(values, degrees, size):
    value = dict(zip(("x", "y", "width", "height"), values, strict=True))
    x, y, width, height = np.array(values) / 100 * [size[1], size[0], size[1], size[0]]
    turn = np.exp(1j * np.radians(degrees))
    corners = x + 1j * y + np.array([0, width, width + 1j * height, 1j * height]) * turn
    expected = corners.real.min(), corners.imag.min(), np.ptp(corners.real), np.ptp(corners.imag)
    assert _box(_Region("rectangle", value), degrees, size) == pytest.approx(expected, abs=1e-6)


def test_annotators_are_readers(tmp_path, make):
    near = {**LEFT, "x": 27}
    tasks = [
        task(
            annotation(region()),
            annotation(region(near), by=2),
            annotation(region(LEFT, ["mass"]), by={"id": 9, "email": "x@example.org"}),
        ),
        task(annotation(region()), annotation(by=2), image="b.png", number=6),
    ]
    merged = folder_of(tmp_path, make, *tasks)
    assert [(one.label, one.extra) for one in merged.samples["a"].boxes] == [(0, {"readers": 1}), (1, {"readers": 2})]
    assert merged.samples["a"].boxes[1].box == pytest.approx((12.48, 6, 24, 12), abs=1e-3)
    assert [note.cause for note in merged.notes] == [
        "3 annotators' boxes were joined (--readers merge)",
        "2 annotators' boxes were joined (--readers merge)",
    ]
    every = folder_of(tmp_path, make, *tasks, readers="all")
    assert [one.extra["reader"] for one in every.samples["a"].boxes] == ["1", "2", "9"]
    agreed = folder_of(tmp_path, make, *tasks, readers="consensus")
    assert list(agreed.samples) == ["a"]
    assert [one.extra for one in agreed.samples["a"].boxes] == [{"readers": 2}]
    assert agreed.left_out["on which no two readers drew the same box (--readers consensus)"] == 1


def test_what_one_annotator_drew_stays_as_drawn(tmp_path, make):
    both = region(), region({**LEFT, "x": 26}, key="r2")
    (sample,) = folder_of(tmp_path, make, task(annotation(*both))).samples.values()
    assert len(sample.boxes) == 2
    assert sample.boxes[0].extra == {}


def test_ground_truth_stands_for_all_and_the_last_annotation_of_a_person_counts(tmp_path, make):
    old, new = ({"created_at": f"2024-01-0{day}T00:00:00Z"} for day in (1, 2))
    folder = folder_of(
        tmp_path,
        make,
        task(annotation(region()), annotation(region(LEFT, ["mass"]), by=2, ground_truth=True)),
        task(annotation(region(), **new), annotation(region(LEFT, ["mass"]), **old), image="b.png", number=6),
    )
    assert [folder.categories[one.boxes[0].label] for one in folder.samples.values()] == ["mass", "opacity"]
    assert {note.cause for note in folder.notes} == {
        "1 annotations were not read, as there is a ground truth",
        "1 annotations were not read, as the same person made a later one",
    }


def test_tasks_without_a_finished_annotation_are_no_negatives(tmp_path, make):
    cancelled = annotation(region(), was_cancelled=True)
    folder = folder_of(
        tmp_path,
        make,
        task(cancelled),
        task(image="b.png", number=6),
        task(annotation(region()), cancelled, image="c.png", number=7),
        names=("a.png", "b.png", "c.png"),
    )
    assert list(folder.samples) == ["c"]
    assert folder.left_out == {"of tasks without a finished annotation": 2}
    assert not folder.skipped


FILES = (
    "images/x/a.png",
    "images/y/a.png",
    "images/d e.png",
    "images/deadbeef-f.png",
    "images/f.png",
    "images/ü (1).png",
)


@pytest.mark.parametrize(
    ("reference", "file"),
    [
        ("/data/local-files/?d=images/y/a.png", "images/y/a.png"),
        ("/data/local-files/?d=/srv/share/y/a.png", "images/y/a.png"),
        ("https://host/bucket/x/a.png?X-Amz-Signature=1%2F2", "images/x/a.png"),
        ("s3://bucket/set/d%20e.png", "images/d e.png"),
        ("/data/upload/3/0123abcd-d_e.png", "images/d e.png"),
        ("/data/upload/3/0123abcd-%C3%BC_1.png", "images/ü (1).png"),
        ("/storage-data/uploaded/?filepath=upload/3/0123abcd-f.png", "images/f.png"),
        ("/data/upload/3/deadbeef-f.png", "images/deadbeef-f.png"),
        ("http://ls/tasks/4/resolve/?fileuri=czM6Ly9idWNrZXQvZi5wbmc=", "images/f.png"),
        ("images\\d e.png", "images/d e.png"),
        ("d e.png", "images/d e.png"),
        ("/data/upload/3/0123abcd-a.png", "2 files may be"),
        ("/data/upload/3/0123abcd-g.png", "no file is '/data/upload/3/0123abcd-g.png'"),
        ("data:image/png;base64,AAAA", "holds the picture itself"),
        ("  ", "names no image, only image"),
    ],
)
def test_images_are_found_by_what_label_studio_calls_them(tmp_path, make, reference, file):
    folder = folder_of(
        tmp_path, make, task(annotation(), image=reference), task(annotation(), image="d%20e.png"), names=FILES
    )
    used = [sample.source.relative_to(tmp_path).as_posix() for sample in folder.samples.values()]
    if "." in file and "'" not in file:
        assert set(used) == {file, "images/d e.png"}
        assert not folder.skipped
    else:
        assert used == ["images/d e.png"]
        (issue,) = folder.skipped
        assert file in issue.cause
        assert issue.field.startswith("data")


def test_of_a_tasks_data_the_image_is_taken(tmp_path, make):
    (sample,) = folder_of(
        tmp_path, make, {**task(annotation()), "data": {"patient": "p1", "picture": "b.png"}}
    ).samples.values()
    assert sample.image_id == "b"
    folder = folder_of(
        tmp_path, make, {**task(annotation()), "data": {"one": "a.png", "two": "b.png"}}, task(annotation())
    )
    assert [issue.cause for issue in folder.skipped] == ["names several images: one, two"]


@pytest.mark.parametrize(
    ("bad", "field", "cause"),
    [
        (region({**LEFT, "x": 300}, key="bad"), "x ({}, region bad)", "expected percent of the image"),
        (region({**LEFT, "width": -1}, key="bad"), "width ({}, region bad)", "-1 is no length"),
        (region({**LEFT, "y": "low"}, key="bad"), "y ({}, region bad)", "expected a number, got 'low'"),
        (region({**LEFT, "y": float("nan")}, key="bad"), "y ({}, region bad)", "expected a number, got nan"),
        (region(names=[], key="bad"), "labels ({}, region bad)", "the region has none"),
        (region(names=[3], key="bad"), "rectanglelabels ({}, region bad)", "expected a list of names"),
        (region({"points": [[1]]}, kind="polygon", key="bad"), "points ({}, region bad)", "expected x, y of each"),
        (region({"points": []}, kind="polygon", key="bad"), "points ({}, region bad)", "there are none"),
        (region(image_rotation=90, key="bad"), "image_rotation ({}, region bad)", "the image was turned"),
        (region(item_index=1, key="bad"), "item_index ({}, region bad)", "several images"),
        (region(original_width=50), "original_width ({})", "several heights and widths: [(60, 48), (60, 50)]"),
        ({"id": "bad", "type": "rectanglelabels"}, "value ({}, region bad)", "expected an object"),
        (region({"rle": [1]}, kind="brush", key="bad"), "label ({})", "has boxes on other images, and here a mark"),
    ],
)
def test_an_image_with_a_bad_region_is_not_used(tmp_path, make, bad, field, cause):
    folder = folder_of(
        tmp_path, make, task(annotation(region(), bad)), task(annotation(region()), image="b.png", number=6)
    )
    assert list(folder.samples) == ["b"]
    (issue, *_) = folder.skipped
    assert (issue.file, issue.field) == ("export.json", field.format("task 5"))
    assert cause in issue.cause


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("{}", "no export of Label Studio"),
        ("[]", "no export of Label Studio"),
        ("[", "cannot be read as JSON"),
        ('[{"image": "a.png", "label": [], "annotation_id": 1}]', "not as JSON-MIN"),
        (json.dumps([task(annotation(region(names=["x"]), region(names=["X"], key="2")))]), "called 'X' and 'x'"),
    ],
)
def test_a_folder_that_cannot_be_used_is_an_error(tmp_path, make, content, cause):
    make.png(tmp_path / "a.png")
    (tmp_path / "export.json").write_text(content)
    with pytest.raises(DataError, match=cause):
        read_folder(tmp_path, Options())
