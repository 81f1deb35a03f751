import time

import cv2
import numpy as np
import pytest

from covidmm.prepare.markers import find_markers, mask_markers


@pytest.fixture
def radiograph():
    """A smooth bright body on a dark ground, with ribs."""
    rows, columns = np.mgrid[:400, :360].astype(np.float32)
    body = 150 * np.exp(-(((rows - 220) / 170) ** 4) - ((columns - 180) / 130) ** 4)
    ribs = 25 * np.sin(rows / 9 + (columns - 180) ** 2 / 4000) * (body > 60)
    return np.clip(30 + body + ribs, 0, 255).astype(np.uint8)


def written(pixels, text, place, scale=0.7):
    return cv2.putText(pixels.copy(), text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, 255, 2, cv2.LINE_AA)


def test_anatomy_alone_has_none(radiograph):
    assert len(find_markers(radiograph)) == 0
    for flat in (0, 128, 255):
        assert len(find_markers(np.full((90, 70), flat, np.uint8))) == 0
    assert mask_markers(radiograph) == (radiograph, 0)


@pytest.mark.parametrize("place", [(320, 50), (8, 60), (20, 390)])
def test_a_letter_is_found_where_it_is(radiograph, place):
    (box,) = find_markers(written(radiograph, "L", place))
    assert box[0] - 4 <= place[0] <= box[2]
    assert box[1] <= place[1] <= box[3] + 4


def test_a_word_is_one_region_and_two_lines_are_two(radiograph):
    pixels = written(written(radiograph, "AP", (10, 40), 0.5), "PORTABLE", (10, 80), 0.5)
    boxes = find_markers(pixels)
    assert len(boxes) == 2
    assert (boxes[:, 1] < boxes[:, 3]).all()
    assert boxes[0, 1] < boxes[1, 1]


def test_size_does_not_matter(radiograph):
    large = cv2.resize(written(radiograph, "R", (320, 50)), None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    assert len(find_markers(large)) == 1


def test_a_large_picture_is_searched_in_seconds_and_its_boxes_are_in_its_own_pixels(radiograph):
    pixels = written(radiograph, "R", (320, 50))
    (expected,) = find_markers(pixels)
    start = time.process_time()
    (found,) = find_markers(cv2.resize(pixels, None, fx=15, fy=15, interpolation=cv2.INTER_LINEAR))
    assert time.process_time() - start < 5  # minutes, if the kernel had the picture's size
    assert np.abs(found / 15 - expected).max() < 2


def test_masking_takes_the_letters_and_nothing_else(radiograph):
    pixels = written(radiograph, "R", (320, 50))
    masked, count = mask_markers(pixels)
    assert count == 1
    assert len(find_markers(masked)) == 0
    assert np.abs(masked.astype(int) - radiograph).max() < 40
    assert np.array_equal(masked[100:], pixels[100:])
