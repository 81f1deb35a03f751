from dataclasses import replace

import numpy as np
import pytest

from covidmm.audit.appearance import Look
from covidmm.audit.checks import Level
from covidmm.audit.shortcuts import (
    check_blur,
    check_border,
    check_markers,
    check_sources,
    marker_features,
    out_of_reach,
)

BOX = (40.0, 20.0, 20.0, 40.0)


def look(chance, border=0.0, shade=0.0, marked=False):
    blur = chance.integers(80, 120, (64, 64)).reshape(8, 8, 8, 8).mean((1, 3))
    blur[0] += shade
    markers = np.array([[0.9, 0.1, 0.95, 0.15]]) if marked else np.zeros((0, 4))
    return Look(
        (64, 64), "", np.zeros((48, 48), np.uint8), blur, (chance.normal(size=48) + border).astype(np.float32), markers
    )


@pytest.fixture
def drawn(entry):
    """120 images of two classes, and what is seen of the positive ones."""

    def draw(dataset="a", positives=0.5, everywhere=0.0, **seen):
        chance = np.random.default_rng(len(dataset))
        entries, looks = [], []
        for number in range(120):
            positive = bool(chance.random() < positives)
            entries.append(entry(number, boxes=[BOX] if positive else [], dataset=dataset))
            looks.append(look(chance, **({"border": everywhere} | (seen if positive else {}))))
        return entries, looks

    return draw


@pytest.mark.parametrize(
    ("check", "seen"), [(check_border, {"border": 3}), (check_blur, {"shade": 30}), (check_markers, {"marked": True})]
)
def test_each_check_sees_its_own_shortcut_only(drawn, check, seen):
    assert check(*drawn(**seen)).level is Level.FAULT
    assert check(*drawn()).level is Level.OK


def test_markers_are_counted_per_class(drawn):
    entries, looks = drawn(marked=True)
    check = check_markers(entries, looks)
    positives = sum(entry.positive for entry in entries)
    assert check.numbers["marked"] == positives
    assert ("a", "typical", positives, positives, 1.0) in check.tables[0].rows


def test_data_sets_of_different_shares_that_look_different_are_confounded(drawn):
    one = drawn("a", positives=0.8)
    for other, level in (
        (drawn("bb", positives=0.2, everywhere=4.0), Level.WARNING),
        (drawn("bb", positives=0.8, everywhere=4.0), Level.OK),  # told apart, equal shares
        (drawn("ccc", positives=0.2), Level.OK),  # different shares, not told apart
    ):
        check = check_sources([*one[0], *other[0]], [*one[1], *other[1]])
        assert check.level is level, other[0][0].dataset
    assert [row[0] for row in check.tables[0].rows] == ["a", "ccc"]


def test_cells_that_boxes_touch_are_within_reach(entry):
    outside = out_of_reach([entry(n, boxes=[BOX]) for n in range(30)])
    # 100 x 80 pixels in 8 x 8 cells: columns 3 and 4, rows 2 to 5
    expected = np.ones((8, 8), bool)
    expected[2:6, 3:5] = False
    assert np.array_equal(outside, expected)
    assert out_of_reach([entry(1)]).sum() == 28  # no box: the outermost ones


def test_marker_features_count_and_place():
    assert not marker_features(np.zeros((0, 4))).any()
    found = marker_features(np.array([[0.9, 0.0, 1.0, 0.1], [0.0, 0.9, 0.1, 1.0]]))
    assert found[:2] == pytest.approx([2, 0.02])
    assert np.flatnonzero(found[2:]).tolist() == [3, 12]


def test_the_class_whose_share_differs_most_is_named(drawn):
    def labelled(dataset, share):
        entries, looks = drawn(dataset, positives=0.5, everywhere=4.0 if dataset == "bb" else 0.0)
        chance, found = np.random.default_rng(0), []
        for one in entries:
            labels = [label for label, own in enumerate((0.5, share)) if chance.random() < own]
            boxes, names = np.tile([10.0, 10, 20, 20], (len(labels), 1)), ("nodule", "effusion")
            found.append(
                replace(one, study_class=None, boxes=boxes, labels=np.array(labels, np.int64), categories=names)
            )
        return found, looks

    one, other = labelled("a", 0.1), labelled("bb", 0.9)
    check = check_sources([*one[0], *other[0]], [*one[1], *other[1]])
    assert check.level is Level.WARNING
    assert "share of effusion differs" in check.summary
    assert check.numbers["class"] == "effusion"
    assert [row[:2] for row in check.tables[1].rows] == [
        (label, dataset) for label in ("nodule", "effusion") for dataset in ("a", "bb")
    ]
