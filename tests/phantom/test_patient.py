import dataclasses

import numpy as np
import pytest

from covidmm.phantom.patient import Patient


def test_patients_are_grown_up_of_both_sexes_and_views():
    people = [Patient.draw(np.random.default_rng(seed)) for seed in range(200)]
    assert {p.sex for p in people} == {"F", "M"}
    assert {p.view for p in people} == {"AP", "PA"}
    assert all(18 <= p.age <= 92 for p in people)
    assert len({p.age for p in people}) > 30


def test_the_right_dome_stands_higher_than_the_left_above_the_liver():
    for seed in range(50):
        right, left = Patient.draw(np.random.default_rng(seed)).domes
        assert right < left  # y grows downwards


def test_a_patient_is_the_same_each_time_and_cannot_be_changed():
    one, two = (Patient.draw(np.random.default_rng(3)) for _ in range(2))
    assert dataclasses.replace(one, jitter=None) == dataclasses.replace(two, jitter=None)
    assert np.array_equal(one.jitter, two.jitter)
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.age = 3
