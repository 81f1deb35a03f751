import itertools

import cv2
import numpy as np
import pytest

from covidmm.reports.looks import CORNERS, FOUND, MEMBERS, MISSED, PALETTE, TRUTH, class_legend, of_class

# Machado, Oliveira and Fernandes (2009), severity 1.0
COLOUR_VISION = {
    "full": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
# CIE76; about 2 can just be told apart
ROLES_APART, TRUTH_APART, CLASSES_APART = 29, 40, 16


def seen(colours, vision):
    """(N, 3) CIE Lab of what somebody sees of colours."""
    values = np.array([[int(colour[k : k + 2], 16) for k in (1, 3, 5)] for colour in colours]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    linear = (linear @ np.array(COLOUR_VISION[vision]).T).clip(0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return cv2.cvtColor(encoded.astype(np.float32)[None], cv2.COLOR_RGB2LAB)[0]


def nearest(colours, others, vision):
    pairs = seen(colours, vision)[:, None] - seen(others, vision)
    return np.linalg.norm(pairs, axis=2)


@pytest.mark.parametrize("vision", COLOUR_VISION)
def test_truth_and_prediction_differ_for_every_colour_vision(vision):
    assert nearest([TRUTH.colour], [FOUND.colour], vision)[0, 0] > TRUTH_APART
    for one, other in itertools.combinations((TRUTH, FOUND, *MEMBERS), 2):
        assert nearest([one.colour], [other.colour], vision)[0, 0] > ROLES_APART, (one, other)


@pytest.mark.parametrize("vision", COLOUR_VISION)
def test_colours_of_classes_differ_from_each_other_and_from_any_grey(vision):
    for one, other in itertools.combinations(PALETTE, 2):
        assert nearest([one], [other], vision)[0, 0] > CLASSES_APART, (one, other)
    greys = [f"#{value:02x}{value:02x}{value:02x}" for value in range(256)]
    assert nearest(PALETTE, greys, vision).min() > CLASSES_APART


@pytest.mark.parametrize("count", [2, 6, 14, 22, len(PALETTE) * len(CORNERS)])
@pytest.mark.parametrize("role", [TRUTH, MISSED, FOUND, MEMBERS[3]])
def test_no_two_classes_look_the_same(role, count):
    looks = [of_class(role, label) for label in range(count)]
    assert len(set(looks)) == count
    # colours come first, so that few classes need no corners
    assert len({look.colour for look in looks}) == min(count, len(PALETTE))
    assert {(look.width, look.dashed) for look in looks} == {(role.width, role.dashed)}


@pytest.mark.parametrize("label", range(5))
def test_a_name_can_be_read_on_its_colour(label):
    look = of_class(FOUND, label)

    def luminance(colour):
        values = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
        return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]

    dark, light = sorted((luminance(look.colour), luminance(look.ink)))
    assert (light + 0.05) / (dark + 0.05) > 4.5  # WCAG 2.2, AA


def test_the_legend_of_classes_is_in_their_order():
    names = ["a", "b", "c", "d"]
    assert class_legend(names, [3, 1, 3]) == [("b", of_class(FOUND, 1)), ("d", of_class(FOUND, 3))]
