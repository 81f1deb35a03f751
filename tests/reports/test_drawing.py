import itertools
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from covidmm.datasets.annotated_image import TrueBoxes
from covidmm.findings import Detections
from covidmm.reports.drawing import font, legend, marks, render, svg, svg_legend, with_heat
from covidmm.reports.drawn_images import DrawnImage
from covidmm.reports.looks import FALSE_POSITIVE, FOUND, MEMBERS, MISSED, TRUTH, of_class

GREY = np.full((160, 200), 128, np.uint8)


def rgb(colour):
    return tuple(int(colour[k : k + 2], 16) for k in (1, 3, 5))


def found(*boxes, score=0.5):
    return Detections(np.array(boxes, float).reshape(-1, 4), np.full(len(boxes), score))


@pytest.fixture
def image():
    """A hit, a false positive, a truth that was missed, and a member."""
    truth = TrueBoxes(np.array([[20.0, 20, 60, 60], [120, 20, 160, 60]]))
    predicted = found([22, 20, 60, 60], [20, 100, 60, 140])
    return DrawnImage(
        "one", (160, 200), predicted, truth, np.array([True, False]), members={"yolo": found([21, 20, 60, 60])}
    )


def coloured(picture, look):
    return int((np.asarray(picture) == rgb(look.colour)).all(-1).sum())


def test_every_box_has_a_role_and_truth_lies_below(image):
    drawn = marks(image)
    assert [mark.look for mark in drawn] == [TRUTH, MISSED, MEMBERS[0], FOUND, FALSE_POSITIVE]
    assert [mark.label for mark in drawn] == ["", "", "", "0.50", "0.50"]
    assert drawn[1].box == pytest.approx([0.6, 0.125, 0.8, 0.375])
    assert [mark.label for mark in marks(image, member_scores=True)][2] == "0.50"


def test_without_a_truth_nothing_is_missed_or_wrong(image):
    alone = DrawnImage("one", image.size, image.found)
    assert [mark.look for mark in marks(alone)] == [FOUND, FOUND]
    only_truth = DrawnImage("one", image.size, Detections.none(), image.truth)
    assert [mark.look for mark in marks(only_truth)] == [TRUTH, TRUTH]


def test_the_legend_names_what_is_drawn(image):
    looks = dict(legend([image]))
    assert {mark.look for mark in marks(image)} == set(looks.values())
    assert list(looks) == ["truth", "missed truth", "yolo", "ensemble", "false positive"]
    assert dict(legend([DrawnImage("one", image.size, image.found)])) == {"prediction": FOUND}


def test_what_is_wrong_or_missed_is_dashed(image):
    box = [50, 40, 150, 120]
    whole = DrawnImage("one", image.size, found(box))
    wrong = DrawnImage("one", image.size, found(box), hits=np.array([False]))
    lines = [coloured(render(GREY, marks(one), 400), FOUND) for one in (whole, wrong)]
    assert lines[1] < 0.8 * lines[0]


def test_truth_is_seen_around_a_prediction_that_covers_it():
    box = [50.0, 40, 150, 120]
    image = DrawnImage("one", (160, 200), found(box), TrueBoxes(np.array([box])), np.array([True]))
    for longer in (200, 360, 900):
        picture = render(GREY, marks(image), longer)
        assert coloured(picture, TRUTH) > 100
        assert coloured(picture, FOUND) > 100


def test_a_box_at_the_border_is_whole():
    image = DrawnImage("one", (160, 200), Detections.none(), TrueBoxes(np.array([[-9.0, -9, 300, 300]])))
    pixels = np.asarray(render(GREY, marks(image), 900)).astype(int)
    shown = (pixels == rgb(TRUTH.colour)).all(-1)
    for edge in (shown[:8], shown[-8:], shown[:, :8].T, shown[:, -8:].T):
        assert (edge[:, 10:-10].sum(0) >= 6).all()


def test_scores_of_boxes_over_each_other_can_be_read():
    boxes = [[50 + k, 40 + k, 150, 120] for k in range(8)]
    image = DrawnImage("one", (160, 200), found(*boxes, score=0.5))
    shown = ET.fromstring(f"<svg>{svg(marks(image), (720, 576))}</svg>")
    grounds = [one for one in shown.iter("rect") if not one.get("stroke")]
    tags = [[float(one.get(key)) for key in ("x", "y", "width", "height")] for one in grounds]
    assert len(tags) == len(boxes)
    for (x1, y1, w1, h1), (x2, y2, w2, h2) in itertools.combinations(tags, 2):
        assert x1 + w1 <= x2 or x2 + w2 <= x1 or y1 + h1 <= y2 or y2 + h2 <= y1


def test_pixels_and_svg_show_the_same(image):
    drawn = marks(image)
    colours = re.findall(r'stroke="(#\w{6})"', svg(drawn, (200, 160)))
    assert colours == [mark.look.colour for mark in drawn]
    picture = render(GREY, drawn, 800)
    assert all(coloured(picture, mark.look) > 50 for mark in drawn)


@pytest.mark.parametrize("shape", [(1, 1), (3, 400), (400, 3), (64, 64, 3)])
def test_pictures_of_any_shape(shape):
    image = DrawnImage("one", shape[:2], found([0, 0, shape[1], shape[0]], [-5, -5, 1, 1]))
    picture = render(np.zeros(shape, np.uint8), marks(image), 300, (400, 320))
    assert picture.size == (400, 320)


def test_heat_covers_its_region_alone():
    heat = np.array([[1.0, 1.0], [1.0, 0.0]])
    shown = with_heat(GREY, heat, (0.5, 0.5, 1, 1)).astype(int)
    assert shown.shape == (160, 200, 3)
    assert (shown[:80] == 128).all()
    assert (shown[:, :100] == 128).all()
    assert np.ptp(shown[90, 110]) > 50
    assert np.ptp(shown[-1, -1]) == 0


FINDINGS = [f"finding {number}" for number in range(22)]


def of_classes(labels, truth=None, members=(), classes=FINDINGS):
    """An image with a box of each label; all boxes are apart."""

    def boxes(labels):
        return np.array([[20.0 * k % 160, 20.0 * k // 160 * 20, 20.0 * k % 160 + 15, 35] for k in labels]).reshape(
            -1, 4
        )

    def detections(labels):
        return Detections(boxes(labels), np.full(len(labels), 0.5), np.array(labels, int))

    true = TrueBoxes(boxes(truth or []), np.array(truth or [], int))
    voters = {f"detector_{number}": detections(own) for number, own in enumerate(members)}
    image = DrawnImage("one", (160, 200), detections(labels), true, members=voters, classes=classes)
    return image if truth is None else image.compared(image.found)


@given(st.lists(st.integers(0, 21), max_size=9), st.lists(st.integers(0, 21), max_size=9))
def test_of_several_classes_a_box_looks_like_its_class_whatever_else_is_shown(found, truth):
    image = of_classes(found, truth, members=[truth, found])
    drawn = marks(image)
    labels = [*truth, *truth, *found, *found]
    assert [(one.look.colour, one.look.corners) for one in drawn] == [
        (look.colour, look.corners) for look in (of_class(FOUND, label) for label in labels)
    ]
    assert [one.look.dashed for one in drawn[len(labels) - len(found) :]] == [not hit for hit in image.hits]
    assert [one.label for one in drawn[: len(truth)]] == [FINDINGS[label] for label in truth]
    assert [one.label for one in drawn[len(truth) :]][: len(truth) + len(found)] == ["1"] * len(truth) + ["2"] * len(
        found
    )
    names = [text for text, _ in legend([image])]
    assert names[:6] == ["truth", "missed truth", "1 detector_0", "2 detector_1", "ensemble", "false positive"]
    assert names[6:] == [FINDINGS[label] for label in sorted({*truth, *found})]
    shown = {(look.colour, look.corners) for _, look in legend([image])[6:]}
    assert {(one.look.colour, one.look.corners) for one in drawn} == shown


def test_no_two_of_22_classes_are_drawn_alike():
    pictures, elements = [], set()
    for label in range(22):
        image = replace(of_classes([2]), found=Detections([[50, 40, 150, 120]], [0.5], [label]))
        unnamed = [replace(one, label="") for one in marks(image)]
        pictures.append(np.asarray(render(GREY, unnamed, 300)).astype(int))
        elements.add(svg(unnamed, (300, 240)))
    assert len(elements) == 22
    for one, other in itertools.combinations(pictures, 2):
        # the shapes at four corners have some 30 pixels each
        assert (np.abs(one - other).max(2) > 60).sum() > 40


def test_truth_and_prediction_of_a_class_are_told_apart_without_colour():
    """The truth is wide and has a white rim, which is seen around a prediction of its place."""
    for label in range(22):
        image = DrawnImage(
            "one",
            (160, 200),
            Detections([[50, 40, 150, 120]], [0.5], [label]),
            TrueBoxes(np.array([[50.0, 40, 150, 120]]), np.array([label])),
            np.array([True]),
            classes=FINDINGS,
        )
        both, alone = (
            np.asarray(render(np.full((160, 200), 60, np.uint8), [replace(m, label="") for m in drawn], 400))
            for drawn in (marks(image), marks(replace(image, truth=TrueBoxes(np.zeros((0, 4))), hits=None)))
        )
        white = [(one == 255).all(-1).sum() for one in (both, alone)]
        assert white[0] > 500
        assert white[1] == 0


def test_names_of_classes_are_text_in_svg():
    name = '<b>&"'
    image = of_classes([0], classes=[name, "épanchement"])
    shown = ET.fromstring(f"<svg>{svg(marks(image), (300, 240))}{svg_legend(legend([image]), 300, 12)[0]}</svg>")
    assert {one.text for one in shown.iter("text")} == {f"{name} 0.50", "prediction", name}


@pytest.mark.parametrize("width", [60, 300, 2000])
def test_a_legend_stays_in_its_width(width):
    entries = legend([of_classes(list(range(22)))])
    content, height = svg_legend(entries, width, 12)
    shown = ET.fromstring(f"<svg>{content}</svg>")
    keys, texts = shown.findall("svg"), shown.findall("text")
    assert len(keys) == len(texts) == 23
    ends = [float(one.get("x")) + font(12).getlength(one.text) for one in texts]
    assert max(ends) <= max(width, 2.8 * 12 + font(12).getlength("finding 21") + 1)
    assert max(float(one.get("y")) + float(one.get("height")) for one in keys) <= height
    places = {(one.get("x"), one.get("y")) for one in keys}
    assert len(places) == 23
