import numpy as np
import pytest

from covidmm.utils import boxes

XYWH = [[10, 20, 30.5, 40], [0, 0, 1, 1]]
CORNERS = [[10, 20, 40.5, 60], [0, 0, 1, 1]]


def test_corners_and_xywh_are_each_others_inverse_and_leave_their_argument():
    given = np.array(XYWH)
    assert boxes.corners(given).tolist() == CORNERS
    assert boxes.xywh(CORNERS).tolist() == XYWH
    assert given.tolist() == XYWH


def test_shares_and_pixels_of_an_image():
    assert boxes.normalised(CORNERS, (60, 81)).tolist()[0] == pytest.approx([10 / 81, 20 / 60, 0.5, 1])
    assert boxes.in_pixels(boxes.normalised(CORNERS, (60, 81)), (60, 81)) == pytest.approx(np.array(CORNERS))
    assert boxes.rescaled(CORNERS, (10, 20), (30, 40)).tolist()[0] == [20, 60, 81, 180]


def test_areas_and_overlaps():
    assert boxes.areas(CORNERS).tolist() == [30.5 * 40, 1]
    overlaps = boxes.iou([[0, 0, 2, 2]], [[0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 6, 6], [1, 1, 1, 1]])
    assert overlaps.tolist() == [pytest.approx([1, 1 / 3, 0, 0])]


@pytest.mark.parametrize("convert", [boxes.corners, boxes.xywh, lambda none: boxes.normalised(none, (2, 3))])
def test_no_box_stays_no_box(convert):
    assert convert([]).shape == (0, 4)
    assert boxes.areas([]).shape == (0,)
    assert boxes.iou(np.zeros((0, 4)), CORNERS).shape == (0, 2)


def test_boxes_are_cut_to_their_image_and_what_lies_beside_it_is_named():
    given = [[-5, 2, 30, 200], [40, 10, 60, 20], [100, 10, 120, 20], [10, -9, 20, 0], [np.nan, 1, 2, 3]]
    cut, left = boxes.cut_to_image(given, (80, 100))
    assert cut[:2].tolist() == [[0, 2, 30, 80], [40, 10, 60, 20]]
    assert left.tolist() == [True, True, False, False, True]  # what is not a number is for its user to refuse
