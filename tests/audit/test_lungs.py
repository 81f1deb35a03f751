import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covidmm.audit.lungs import SIDE, find_lungs


def chest(side=200, lungs=((30, 90), (110, 170)), top=40, bottom=150, lung=60, body=190):
    pixels = np.zeros((side, side), np.uint8)
    pixels[:, 10:-10] = body
    for left, right in lungs:
        centre, axes = ((left + right) // 2, (top + bottom) // 2), ((right - left) // 2, (bottom - top) // 2)
        cv2.ellipse(pixels, centre, axes, 0, 0, 360, lung, -1)
    return pixels


def share(field, box, side=200):
    x1, y1, x2, y2 = (round(value / side * SIDE) for value in box)
    return field[y1:y2, x1:x2].mean()


def test_both_lungs_are_outlined_and_nothing_else():
    field = find_lungs(chest())
    assert share(field, (45, 60, 75, 130)) == share(field, (125, 60, 155, 130)) == 1
    assert share(field, (0, 0, 200, 30)) == share(field, (0, 165, 200, 200)) == 0
    assert share(field, (0, 0, 20, 200)) == share(field, (97, 0, 103, 200)) == 0


def test_a_lung_made_bright_by_an_opacity_gets_the_other_ones_shape():
    pixels = chest()
    pixels[100:160, 100:180] = 190
    field = find_lungs(pixels)
    assert share(field, (125, 105, 155, 130)) == 1


@pytest.mark.parametrize("pixels", [np.zeros((50, 60), np.uint8), np.full((50, 60), 255, np.uint8), chest(lungs=())])
def test_what_shows_no_lungs_has_no_outline(pixels):
    assert find_lungs(pixels) is None


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 80), st.integers(1, 80))
def test_noise_of_any_size_does_no_harm(seed, height, width):
    field = find_lungs(np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8))
    assert field is None or field.shape == (SIDE, SIDE)


def test_opacities_of_phantoms_lie_in_the_outline(clean, plants):
    inside, area = [], []
    for content in plants.annotations(clean).values():
        fields = {}
        for image in content["images"]:
            field = find_lungs(cv2.imread(str(clean / "images" / image["file_name"]), cv2.IMREAD_GRAYSCALE))
            if field is not None:
                fields[image["id"]] = cv2.resize(field.astype(np.float32), (image["width"], image["height"]))
                area.append(field.mean())
        for one in content["annotations"]:
            if one["image_id"] in fields:
                x, y, width, height = (round(value) for value in one["bbox"])
                inside.append(fields[one["image_id"]][y : y + height, x : x + width].mean())
    assert len(area) > 80
    assert np.mean(inside) > 1.6 * np.mean(area)
