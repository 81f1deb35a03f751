import dataclasses

import numpy as np

from covidmm.phantom.exposure import Exposure


def step(canvas):
    """Half the picture attenuates more than the other."""
    return np.where(canvas.y > 0, 0.8, 0.3).astype(np.float32)


def test_more_attenuation_is_brighter_and_values_stay_in_range(upright, person, rng):
    grey = Exposure(upright, person, rng).take(step(upright))
    assert grey.min() >= 0
    assert grey.max() <= 1
    middle = np.abs(upright.x) < 0.5
    upper, lower = grey[middle & (upright.y < -0.3)], grey[middle & (upright.y > 0.3)]
    assert np.median(lower) > np.median(upper) + 0.1


def test_one_exposure_has_one_noise(upright, person, rng):
    shot = Exposure(upright, person, rng)
    assert np.array_equal(shot.take(step(upright)), shot.take(step(upright)))
    other = Exposure(upright, person, np.random.default_rng(99))
    assert not np.array_equal(shot.take(step(upright)), other.take(step(upright)))


def test_devices_are_brighter_than_what_they_cover(upright, person):
    shots = [
        Exposure(upright, dataclasses.replace(person, devices=devices), np.random.default_rng(5)).take(step(upright))
        for devices in (False, True)
    ]
    assert shots[1].sum() != shots[0].sum()
