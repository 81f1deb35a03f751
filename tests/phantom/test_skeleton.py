import dataclasses

import numpy as np

from covidmm.phantom.skeleton import draw_bones


def test_bones_only_add_and_are_mirrored(upright, person):
    bones = draw_bones(upright, person)
    assert bones.shape == (300, 280)
    assert bones.min() >= 0
    left, right = bones[:, :140].sum(), bones[:, 140:].sum()
    assert abs(left - right) < 0.2 * (left + right)


def test_there_are_many_ribs_beside_the_spine(upright, person):
    column = draw_bones(upright, person)[60:240, int(140 + 0.5 * 120)]
    rising = np.diff((column > column.mean()).astype(int)) == 1
    assert rising.sum() >= 5


def test_denser_bones_attenuate_more(upright, person):
    dense = dataclasses.replace(person, bone=person.bone * 1.5)
    assert draw_bones(upright, dense).sum() > draw_bones(upright, person).sum()
