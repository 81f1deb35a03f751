import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from covidmm.prepare.samples import clip_box


@pytest.mark.parametrize(
    ("box", "clipped"),
    [
        ((1, 2, 3, 4), (1, 2, 3, 4)),
        ((-1, -2, 3, 4), (0, 0, 2, 2)),
        ((8, 18, 5, 5), (8, 18, 2, 2)),
        ((-5, -5, 100, 100), (0, 0, 10, 20)),
        ((10, 2, 3, 4), None),
        ((-3, 2, 3, 4), None),
        ((1, 2, 0, 4), None),
        ((5, 5, -2, 4), None),
    ],
)
def test_clips_to_a_10_by_20_image(box, clipped):
    assert clip_box(box, 10, 20) == clipped


@given(st.tuples(*[st.integers(-15, 25)] * 2, *[st.integers(1, 30)] * 2))
def test_keeps_exactly_the_pixels_inside(box):
    x, y, width, height = box
    mask = np.zeros((60, 60), bool)  # the image with 20 pixels around it
    mask[y + 20 : y + 20 + height, x + 20 : x + 20 + width] = True
    inside = mask[20:40, 20:30].sum()
    clipped = clip_box(box, 10, 20)
    assert (clipped[2] * clipped[3] if clipped else 0) == inside
