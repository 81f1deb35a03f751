import cv2
import numpy as np
import pytest

from covidmm.audit.alignment import MIN_DETAIL, detail_agreement


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
    assert detail_agreement(picture, part) >= MIN_DETAIL
    assert detail_agreement(part, picture) >= MIN_DETAIL


def test_other_pictures_and_flat_ones_do_not():
    assert detail_agreement(scene(1), scene(2)) < 0.5
    flat = np.full((80, 70), 9, np.uint8)
    assert detail_agreement(flat, flat) == detail_agreement(scene(1), flat) == -1
