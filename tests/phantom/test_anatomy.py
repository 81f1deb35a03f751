import numpy as np

from covidmm.phantom.anatomy import draw_thorax, lung_outline


def test_lungs_lie_on_their_sides_and_are_darker_than_the_body_around(upright, person, rng):
    thorax = draw_thorax(upright, person, rng)
    for lung, side in zip(thorax.lungs, (-1, 1), strict=True):
        weight = lung * side * upright.x
        assert weight.sum() > 0.95 * np.abs(weight).sum()
        inside, between = thorax.attenuation[lung > 0.9], thorax.attenuation[np.abs(upright.x) < 0.05]
        assert inside.mean() < between.mean()


def test_air_around_the_patient_attenuates_nothing(upright, person, rng):
    thorax = draw_thorax(upright, person, rng)
    assert 0 <= thorax.attenuation.min() < 1e-3
    assert np.isfinite(thorax.attenuation).all()


def test_a_lung_reaches_from_its_apex_to_the_angle_below_its_dome(person):
    for side, dome in zip((-1, 1), person.domes, strict=True):
        outline = lung_outline(person, side)
        assert np.all(outline[:, 0] * side > -0.05)
        assert outline[:, 1].min() < -0.8
        assert outline[:, 1].max() > dome
