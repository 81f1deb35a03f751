import math
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from covidmm.errors import DataError
from covidmm.prepare.layouts.cvat import _box, read_folder
from covidmm.prepare.options import Options
from covidmm.prepare.pipeline import prepare

LABELS = ("opacity", "nodule", ("No finding", "tag"), ("carina", "points"))


def box(label="opacity", edges=(4, 6, 24, 26), inside="", **more):
    texts = {"label": label, **dict(zip(("xtl", "ytl", "xbr", "ybr"), edges, strict=True)), **more}
    return f"<box {' '.join(f'{key}={str(text)!r}' for key, text in texts.items())}>{inside}</box>"


def attribute(name, text):
    return f"<attribute name='{name}'>{text}</attribute>"


def image(name="a.png", *shapes, more=""):
    return f"<image id='7' name='{name}' width='48' height='60' {more}>{''.join(shapes)}</image>"


def cvat(*images, labels=LABELS, head="", task="first"):
    pairs = [one if isinstance(one, tuple) else (one, "any") for one in labels]
    listed = "".join(f"<label><name>{name}</name><type>{kind}</type></label>" for name, kind in pairs)
    meta = f"<meta><task><id>1</id><name>{task}</name><labels>{listed}</labels></task></meta>"
    return f"{head}<annotations><version>1.1</version>{meta}{''.join(images)}</annotations>"


def folder_of(tmp_path, make, *images, names=("images/a.png", "images/b.png"), **more):
    for seed, name in enumerate(names):
        make.png(tmp_path / name, seed)
    (tmp_path / "annotations.xml").write_text(cvat(*images, **more))
    return read_folder(tmp_path, Options())


def test_boxes_attributes_tags_and_ignored_regions(tmp_path, make):
    folder = folder_of(
        tmp_path,
        make,
        image(
            "a.png",
            box(occluded="1", z_order="2", inside=attribute("side", "left")),
            box("nodule", (0.5, 0, 1.5, 60), inside=attribute("ignore", "true")),
            box(
                "nodule", (10, 10, 20, 20), inside=attribute("difficult", "false") + attribute("crowd", "__undefined__")
            ),
        ),
        image("b.png", "<tag label='No finding' source='manual'></tag>"),
    )
    assert folder.categories == ("opacity", "nodule")
    assert folder.classes == ("opacity", "nodule", "No finding", "carina", "none of them")
    a, b = folder.samples.values()
    assert [one[:3] for one in a.boxes] == [
        ((4, 6, 20, 20), 0, False),
        ((0.5, 0, 1, 60), 1, True),
        ((10, 10, 10, 10), 1, False),
    ]
    assert a.boxes[0].extra == {"attributes": {"side": "left", "occluded": True, "z_order": 2}}
    assert a.boxes[1].extra == {"attributes": {"ignore": True}}
    assert (a.size, a.extra) == ((60, 48), {"cvat_id": "7", "task": "first"})
    assert (b.boxes, b.classes, b.extra["tags"]) == ((), ("No finding",), ["No finding"])
    assert not folder.skipped
    assert not folder.notes


def test_shapes_become_boxes_and_that_is_said(tmp_path, make):
    folder = folder_of(
        tmp_path,
        make,
        image(
            "a.png",
            "<polygon label='nodule' points='1.5,2;10,3;4,20.25'></polygon>",
            "<mask label='nodule' left='3' top='4' width='5' height='6' rle='0,30'></mask>",
            "<ellipse label='nodule' cx='20' cy='30' rx='4' ry='2' rotation='90'></ellipse>",
            box(edges=(10, 10, 30, 20), rotation="90.00"),
            box(outside="1"),
            "<points label='carina' points='5,5'></points>",
        ),
    )
    (sample,) = folder.samples.values()
    assert [one.box for one in sample.boxes] == [
        (1.5, 2, 8.5, 18.25),
        (3, 4, 5, 6),
        pytest.approx((18, 26, 4, 8)),
        pytest.approx((15, 5, 10, 20)),
    ]
    assert sorted(note.cause for note in folder.notes) == [
        "1 ellipses became the boxes around them",
        "1 marks (points) of 'carina' were left out, which have no box",
        "1 masks became the boxes around them",
        "1 polygons became the boxes around them",
        "1 shapes were left out that are outside of the picture",
        "1 turned boxes became the upright boxes around them",
    ]


@given(st.tuples(*[st.floats(-50, 500)] * 2, *[st.floats(2, 300)] * 2), st.floats(-720, 720))
def test_a_turned_box_is_opencvs(xywh, degrees):
    x, y, width, height = xywh
    element = ElementTree.fromstring(box(edges=(x, y, x + width, y + height)))
    found = np.array(_box(element, degrees))
    points = cv2.boxPoints(((x + width / 2, y + height / 2), (width, height), degrees))
    low, high = points.min(0), points.max(0)
    assert found == pytest.approx(np.array([*low, *(high - low)]), abs=1e-2)


@given(st.tuples(*[st.floats(50, 100)] * 2, *[st.floats(1, 40)] * 2), st.floats(0, 360))
def test_the_box_around_an_ellipse_touches_its_outline(values, degrees):
    cx, cy, rx, ry = values
    text = f"<ellipse cx='{cx}' cy='{cy}' rx='{rx}' ry='{ry}'></ellipse>"
    x, y, width, height = _box(ElementTree.fromstring(text), degrees)
    angles, turn = np.linspace(0, 2 * math.pi, 2000), math.radians(degrees)
    across = cx + rx * np.cos(angles) * math.cos(turn) - ry * np.sin(angles) * math.sin(turn)
    down = cy + rx * np.cos(angles) * math.sin(turn) + ry * np.sin(angles) * math.cos(turn)
    outline = (across.min(), down.min(), np.ptp(across), np.ptp(down))
    assert (x, y, width, height) == pytest.approx(outline, abs=1e-2)


def test_subsets_of_a_project_are_splits_and_folders(tmp_path, make):
    names = [f"images/{subset}/x.png" for subset in ("Train", "Validation", "Test")]
    images = [image("x.png", box(), more=f"subset='{name.split('/')[1]}' task_id='1'") for name in names]
    folder = folder_of(tmp_path, make, *images, names=names)
    assert {sample.source.parts[-2]: sample.official for sample in folder.samples.values()} == {
        "Train": "train",
        "Validation": "val",
        "Test": "test",
    }
    folder = folder_of(tmp_path / "other", make, image("x.png", box(), more="subset='default'"), names=["x.png"])
    assert [note[1:] for note in folder.notes] == [
        ("subset 'default'", "is no split: expected train, val, validation or test")
    ]


def test_several_tasks_are_joined_by_the_names_of_their_labels(tmp_path, make):
    for seed, task in enumerate(("one", "two")):
        make.png(tmp_path / task / "images/x.png", seed)
        labels = ("nodule", "opacity") if seed else ("opacity", "mass")
        text = cvat(image("x.png", box()), labels=labels, task=f"task {task}")
        (tmp_path / task / "annotations.xml").write_text(text)
    folder = read_folder(tmp_path, Options())
    assert folder.categories == ("opacity", "mass", "nodule")
    assert [sample.extra["task"] for sample in folder.samples.values()] == ["task one", "task two"]


def test_tags_alone_are_labels_of_whole_images(tmp_path, make):
    tag = "<tag label='{}' source='manual'/>"
    folder = folder_of(tmp_path, make, image("a.png", tag.format("nodule")), image("b.png", tag.format("No finding")))
    assert folder.categories == ("opacity", "nodule", "No finding", "carina")
    assert [sample.extra["labels"] for sample in folder.samples.values()] == [["nodule"], ["No finding"]]


@pytest.mark.parametrize(
    ("shape", "field", "cause"),
    [
        (box("mass"), "label ({}, box 2)", "'mass' is none of the file's labels"),
        (box(""), "label ({}, box 2)", "is empty"),
        (box(edges=(24, 6, 4, 26)), "x2 ({}, box 2)", "4 is below x1, 24"),
        (box(edges=(4, 6, "x", 26)), "xbr ({}, box 2)", "could not convert"),
        (box(edges=(0.1, 0.1, 0.4, 0.6)), "box ({}, box 2)", "expected pixels, got shares"),
        (box(edges=(4, 6, 24, "nan")), "ybr ({}, box 2)", "not finite"),
        (box(inside=attribute("ignore", "maybe")), "ignore ({}, box 2)", "expected 0 or 1, got 'maybe'"),
        ("<box label='opacity' xtl='1'/>", "ytl ({}, box 2)", "could not convert"),
        ("<polygon label='opacity' points='1,2;3'/>", "points ({}, polygon 1)", "expected x,y;x,y"),
        ("<ellipse label='opacity' cx='9' cy='9' rx='-2' ry='1'/>", "radius ({}, ellipse 1)", "-2 is no length"),
        ("<polyline label='opacity' points='1,2;3,4'/>", "label ({})", "has boxes on other images, and here a mark"),
    ],
)
def test_an_image_with_a_bad_shape_is_not_used(tmp_path, make, shape, field, cause):
    folder = folder_of(tmp_path, make, image("a.png", box(), shape), image("b.png", box()))
    assert list(folder.samples) == ["b"]
    (issue,) = folder.skipped
    assert (issue.file, issue.field) == ("annotations.xml", field.format("image 7 'a.png'"))
    assert cause in issue.cause


@pytest.mark.parametrize(
    ("entry", "cause"),
    [
        (image("c.png", box()), "no such image"),
        (image("", box()), "is empty"),
        (image("../a.png", box()), "leads out of the folder"),
        (image("b.png", box(edges=(1, 2, 30, 40))), "a second entry for this image"),
        (image("a.png", "<tag label='opacity'/>"), "has boxes on other images, and here a mark without one"),
    ],
)
def test_an_entry_that_cannot_be_used_is_listed(tmp_path, make, entry, cause):
    folder = folder_of(tmp_path, make, image("b.png", box()), entry)
    assert cause in " ".join(issue.cause for issue in folder.skipped)
    assert "a" not in folder.samples


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (None, "no CVAT file in it"),
        ("<annotation></annotation>", "no CVAT file in it"),
        ("<annotations><track id='0' label='x'/></annotations>", "has tracks of a video"),
        ("<annotations>", "annotations.xml: cannot be read"),
        (cvat(head="<!DOCTYPE x>"), "annotations.xml: has a DOCTYPE"),
        (cvat(labels=("x", "x")), "two labels are called 'x'"),
        (cvat(image("a.png", box("x")), labels=("x", "X")), "two classes are called 'x' and 'X'"),
        (cvat(image("a.png", box("x")), labels=("x", " ")), "a label has no name"),
    ],
)
def test_a_folder_that_cannot_be_used_is_an_error(tmp_path, make, text, cause):
    make.png(tmp_path / "a.png")
    if text:
        (tmp_path / "annotations.xml").write_text(text)
    with pytest.raises(DataError, match=cause):
        read_folder(tmp_path, Options())


def test_the_whole_way(tmp_path, make):
    folder_of(tmp_path / "raw", make, image("a.png", box(), box("nodule")), image("b.png"))
    options = Options(workers=1, progress=False)
    summary = prepare("cvat", tmp_path / "raw", tmp_path / "out", options)
    assert (summary.written, summary.skipped.total) == (2, 0)
