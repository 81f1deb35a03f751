"""The assignment rule against a slow reading of it, one cell at a time."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from covidmm.models.yolov5.assigner import AnchorRatioAssigner

ASSIGNER = AnchorRatioAssigner()
ANCHORS = torch.tensor([[16.0, 16.0], [32.0, 64.0], [200.0, 40.0]])


def boxes_of(*centres_and_sides):
    cx, cy, w, h = torch.tensor(centres_and_sides, dtype=torch.float32).T
    return torch.stack((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2), 1)


def assign(boxes, images=None, stride=(16, 16), size=(8, 10)):
    images = torch.zeros(len(boxes), dtype=torch.long) if images is None else images
    found = ASSIGNER.assign(boxes, images, ANCHORS, stride, size)
    columns = (found.box, found.image, found.anchor, found.row, found.column)
    return set(zip(*(column.tolist() for column in columns), strict=True))


def slowly(boxes, size=(8, 10), stride=16):
    """Every cell and anchor in turn: similar shape, centre in reach, at most one step away and not diagonal."""
    found = set()
    for box, anchor in itertools.product(range(len(boxes)), range(len(ANCHORS))):
        left, top, right, bottom = boxes[box].tolist()
        ratios = [(right - left) / ANCHORS[anchor, 0].item(), (bottom - top) / ANCHORS[anchor, 1].item()]
        if max(max(r, 1 / r) for r in ratios) >= 4:
            continue
        x, y = (left + right) / 2 / stride, (top + bottom) / 2 / stride
        for row, column in itertools.product(range(size[0]), range(size[1])):
            steps = abs(column - int(x)) + abs(row - int(y))
            if steps <= 1 and -0.5 < x - column < 1.5 and -0.5 < y - row < 1.5:
                found.add((box, 0, anchor, row, column))
    return found


def test_a_centre_in_the_upper_left_of_its_cell_is_shared_with_left_and_upper():
    found = assign(boxes_of((3.2 * 16, 4.3 * 16, 16, 16)))
    assert {(row, column) for _, _, anchor, row, column in found if anchor == 0} == {(4, 3), (4, 2), (3, 3)}


def test_a_centre_near_the_border_has_no_neighbour_outside():
    found = assign(boxes_of((0.2 * 16, 7.9 * 16, 16, 16)))
    assert {(row, column) for _, _, anchor, row, column in found if anchor == 0} == {(7, 0)}


def test_a_centre_on_the_far_corner_belongs_to_the_last_cell():
    assert (0, 0, 0, 7, 9) in assign(boxes_of((160, 128, 16, 16)))


@settings(deadline=None, max_examples=80)
@given(
    st.lists(
        st.tuples(st.floats(1, 159), st.floats(1, 127), st.floats(3, 300), st.floats(3, 300)), min_size=1, max_size=4
    )
)
def test_equals_the_slow_reading(centres_and_sides):
    boxes = boxes_of(*centres_and_sides)
    # floats that round onto a cell's middle or a limit of shape are decided by rounding alone
    centres = (boxes[:, :2] + boxes[:, 2:]) / 32
    ratios = (boxes[:, None, 2:] - boxes[:, None, :2]) / ANCHORS
    edges = torch.cat(((centres * 2 - (centres * 2).round()).flatten(), ((ratios.log().abs() - 1.3862944).flatten())))
    if edges.abs().min() > 1e-4:
        assert assign(boxes) == slowly(boxes)


def test_the_image_of_each_box_is_kept():
    boxes = boxes_of((40, 40, 16, 16), (100, 100, 16, 16))
    assert {(box, image) for box, image, *_ in assign(boxes, torch.tensor([3, 1]))} == {(0, 3), (1, 1)}


@pytest.mark.parametrize("box", [(50, 50, 0, 20), (50, 50, 20, 0), (50, 50, -5, 20), (float("nan"), 50, 20, 20)])
def test_nothing_answers_for_a_degenerate_box(box):
    assert assign(boxes_of(box)) == set()


def test_no_boxes_no_matches():
    assert assign(torch.zeros(0, 4)) == set()


@pytest.mark.parametrize("ratio", [0.5, 1.0, 4.5])
def test_a_ratio_that_the_coder_cannot_reach_is_refused(ratio):
    with pytest.raises(ValueError, match="max_ratio"):
        AnchorRatioAssigner(max_ratio=ratio)
