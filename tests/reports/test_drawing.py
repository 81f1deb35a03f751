import itertools
import re
import xml.etree.ElementTree as ET

import cv2
import numpy as np
import pytest

from covidmm.datasets.annotated_image import TrueBoxes
from covidmm.findings import Detections
from covidmm.reports.drawing import legend, marks, render, svg, with_heat
from covidmm.reports.drawn_images import DrawnImage
from covidmm.reports.looks import FALSE_POSITIVE, FOUND, MEMBERS, MISSED, TRUTH

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


# Machado, Oliveira and Fernandes (2009), severity 1.0
COLOUR_VISION = {
    "full": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


@pytest.mark.parametrize("vision", COLOUR_VISION)
def test_truth_and_prediction_differ_for_every_colour_vision(vision):
    def seen(colour):
        values = np.array(rgb(colour)) / 255
        linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
        linear = (np.array(COLOUR_VISION[vision]) @ linear).clip(0, 1)
        encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
        return cv2.cvtColor(encoded.astype(np.float32).reshape(1, 1, 3), cv2.COLOR_RGB2LAB)[0, 0]

    # CIE76; about 2 can just be told apart
    assert np.linalg.norm(seen(TRUTH.colour) - seen(FOUND.colour)) > 40
    for one, other in itertools.combinations((TRUTH, FOUND, *MEMBERS), 2):
        assert np.linalg.norm(seen(one.colour) - seen(other.colour)) > 29, (one, other)
