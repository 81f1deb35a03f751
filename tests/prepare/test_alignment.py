import cv2
import numpy as np
import pytest

from covidmm.prepare.alignment import detail_agreement, even_out, in_pixels, of_unit
from covidmm.prepare.near_duplicates import MIN_DETAIL

SAME = np.eye(2, 3, dtype=np.float32)


def scene(seed, side=300):
    chance = np.random.default_rng(seed)
    layers = [cv2.resize(chance.normal(0, 1, (n, n)), (side, side)) / n**0.5 for n in (4, 8, 16, 32, 64)]
    mixed = sum(layers)
    return (255 * (mixed - mixed.min()) / np.ptp(mixed)).astype(np.uint8)


@pytest.mark.parametrize("cut", [(0, 0), (6, 0), (4, 9)])
def test_a_part_of_a_picture_agrees_with_it(cut):
    picture = scene(1)
    part = picture[cut[0] :, : 300 - cut[1]]
    part = np.clip(part * 0.9 + 20, 0, 255).astype(np.uint8)
    part = cv2.imdecode(cv2.imencode(".jpg", part, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], cv2.IMREAD_GRAYSCALE)
    assert detail_agreement(picture, part, SAME) >= MIN_DETAIL
    assert detail_agreement(part, picture, SAME) >= MIN_DETAIL


def test_other_pictures_and_flat_ones_do_not():
    assert detail_agreement(scene(1), scene(2), SAME) < 0.5
    flat = np.full((80, 70), 9, np.uint8)
    assert detail_agreement(flat, flat, SAME) == detail_agreement(scene(1), flat, SAME) == -1


def test_maps_between_pixel_centres_and_squares_of_side_1():
    warp = np.array([[0.9, 0.01, 0.05], [0.02, 0.8, 0.1]], np.float32)
    there = in_pixels(warp, 100)
    # the middle of pixel (20, 30) of 100 is at (0.205, 0.305)
    expected = (warp @ [0.205, 0.305, 1]) * 100 - 0.5
    assert there @ [20, 30, 1] == pytest.approx(expected, abs=1e-4)
    assert of_unit(there, 100) == pytest.approx(warp, abs=1e-6)


def test_a_negative_is_the_same_with_the_other_sign():
    picture = scene(3, 60).astype(np.float32)
    assert even_out(255 - picture, 5, 4) == pytest.approx(-even_out(picture, 5, 4), abs=1e-3)
