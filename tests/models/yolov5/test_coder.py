"""The box coder against the published formula, worked by hand, and as the inverse of itself."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from covidmm.models.yolov5.coder import YOLOv5BBoxCoder

CODER = YOLOv5BBoxCoder()


def test_zero_outputs_are_the_anchor_in_the_middle_of_its_cell():
    prior = torch.tensor([[2.0, 3.0, 12.0, 23.0]])
    assert torch.allclose(CODER.decode(prior, torch.zeros(1, 4), 8), prior)


def test_values_worked_by_hand():
    # cell (2, 1) of stride 8: middle at (20, 12); anchor 10 x 20
    prior = torch.tensor([[15.0, 2.0, 25.0, 22.0]])
    raw = torch.tensor([[torch.logit(torch.tensor(0.75)), torch.logit(torch.tensor(0.25)), 0.0, 1e9]])
    # x: (1.5 - .5 + 2) 8 = 24; y: (.5 - .5 + 1) 8 = 8; w: 10; h: 4 * 20
    expected = torch.tensor([[24 - 5.0, 8 - 40.0, 24 + 5.0, 8 + 40.0]])
    assert torch.allclose(CODER.decode(prior, raw, 8), expected, atol=1e-5)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(-8, 8), min_size=4, max_size=4), st.sampled_from([8, 16, 32, 64]))
def test_encoding_inverts_decoding(raw, stride):
    prior = torch.tensor([[30.0, 40.0, 90.0, 70.0]], dtype=torch.float64)
    raw = torch.tensor([raw], dtype=torch.float64)
    again = CODER.encode(prior, CODER.decode(prior, raw, stride), stride, eps=0)
    assert torch.allclose(again, raw, atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(-100, 100), min_size=4, max_size=4))
def test_centres_and_sides_stay_in_reach(raw):
    prior = torch.tensor([[15.0, 2.0, 25.0, 22.0]])
    left, top, right, bottom = CODER.decode(prior, torch.tensor([raw]), 8)[0].tolist()
    assert 12 - 1e-3 <= (left + right) / 2 <= 28 + 1e-3
    assert 4 - 1e-3 <= (top + bottom) / 2 <= 20 + 1e-3
    assert right - left <= 40 + 1e-3
    assert bottom - top <= 80 + 1e-3


def test_a_box_out_of_reach_is_encoded_as_the_nearest_in_reach():
    prior = torch.tensor([[15.0, 2.0, 25.0, 22.0]])
    far = torch.tensor([[200.0, 2.0, 210.0, 22.0]])
    decoded = CODER.decode(prior, CODER.encode(prior, far, 8), 8)
    assert decoded[0, [0, 2]].mean().item() == pytest.approx(28, abs=1e-3)
