"""Weighted boxes fusion against ensemble_boxes and against the equations."""

import numpy as np
import pytest
from ensemble_boxes import weighted_boxes_fusion
from hypothesis import given, settings
from hypothesis import strategies as st

from covidmm.ensembles.wbf import WeightedBoxesFusion
from covidmm.findings import Detections

BOX = [10, 20, 50, 90]
SIZE = (100, 100)
TYPES = ("avg", "max", "box_and_model_avg", "absent_model_aware_avg")


def one(score, box=BOX):
    return Detections([box], [score])


@pytest.mark.parametrize("conf_type", TYPES)
@pytest.mark.parametrize(("iou_thr", "skip"), [(0.55, 0.0), (0.3, 0.2), (0.8, 0.0)])
@pytest.mark.parametrize("counts", [(30,), (40, 40), (10, 0, 25, 30)], ids=str)
def test_it_agrees_with_ensemble_boxes(conf_type, iou_thr, skip, counts, fake):
    for seed in range(5):
        members = fake.members(np.random.default_rng(seed), counts, labels=3)
        boxes, scores, labels = fake.as_lists(members)
        expected = weighted_boxes_fusion(boxes, scores, labels, iou_thr=iou_thr, skip_box_thr=skip, conf_type=conf_type)
        strategy = WeightedBoxesFusion(iou_thr, skip, conf_type=conf_type)
        fake.same(strategy.fuse(members, [2.0] * len(members), fake.size), *expected)


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10**6), counts=st.lists(st.integers(0, 30), min_size=1, max_size=4), labels=st.integers(1, 3)
)
def test_it_agrees_with_ensemble_boxes_on_any_image(seed, counts, labels, fake):
    members = fake.members(np.random.default_rng(seed), counts, labels)
    fake.same(
        WeightedBoxesFusion().fuse(members, [1] * len(members), fake.size),
        *weighted_boxes_fusion(*fake.as_lists(members), iou_thr=0.55),
    )


@pytest.mark.parametrize("conf_type", TYPES)
def test_with_unequal_weights_it_agrees_while_no_member_has_two_boxes_in_a_cluster(conf_type, fake):
    rng = np.random.default_rng(0)
    for _ in range(20):
        # four places far from each other, found by some of the members
        places = np.array([[10, 10, 200, 200], [10, 250, 200, 450], [300, 10, 600, 200], [300, 250, 600, 450]])
        members = []
        for _ in range(3):
            seen = rng.random(4) < 0.7
            boxes = (places + rng.uniform(-9, 9, (4, 4)))[seen]
            members.append(Detections(boxes, rng.uniform(0.1, 1, len(boxes))))
        weights = rng.uniform(0.5, 3, 3).tolist()
        boxes, scores, labels = fake.as_lists(members)
        if not sum(map(len, scores)):
            continue
        expected = weighted_boxes_fusion(boxes, scores, labels, weights=weights, conf_type=conf_type)
        fake.same(WeightedBoxesFusion(conf_type=conf_type).fuse(members, weights, fake.size), *expected)


def test_scores_do_not_exceed_1_where_those_of_ensemble_boxes_do():
    twice = Detections([BOX, BOX], [1.0, 0.8])
    empty = Detections(np.zeros((0, 4)), [])
    boxes = [np.array([BOX, BOX]) / 100, np.zeros((0, 4))]
    _, theirs, _ = weighted_boxes_fusion(boxes, [[1.0, 0.8], []], [[0, 0], []], weights=[2, 1])
    assert theirs[0] == pytest.approx(1.2)
    # found by a member with two thirds of the weight, twice: its mean, in full
    assert WeightedBoxesFusion().fuse([twice, empty], [2, 1], SIZE).scores.tolist() == pytest.approx([0.9])


@pytest.mark.parametrize(
    ("members", "weights", "score"),
    [
        ([one(0.9), one(0.6)], [2, 1], (2 * 0.9 + 0.6) / 3),
        ([one(0.9), Detections(np.zeros((0, 4)), [])], [2, 1], 0.9 * 2 / 3),
        ([Detections(np.zeros((0, 4)), []), one(0.9)], [2, 1], 0.9 / 3),
        ([Detections([BOX] * 2, [0.9, 0.7]), one(0.5)], [2, 1], (2 * 0.9 + 2 * 0.7 + 0.5) / 5),
        ([one(0.9), one(0.6), one(0.3)], [1, 1, 1], 0.6),
    ],
)
def test_the_score_is_the_weighted_mean_times_the_share_of_weight(members, weights, score):
    assert WeightedBoxesFusion().fuse(members, weights, SIZE).scores.tolist() == pytest.approx([score])


@given(scores=st.lists(st.floats(0.0078125, 1, width=32), min_size=1, max_size=6), absent=st.integers(0, 5))
def test_equation_6(scores, absent):
    """The mean is scaled by min(T, M) / M."""
    members = [one(score) for score in scores] + [Detections(np.zeros((0, 4)), [])] * absent
    found = WeightedBoxesFusion().fuse(members, [1] * len(members), SIZE)
    assert found.scores.tolist() == pytest.approx([np.mean(scores) * len(scores) / len(members)], rel=1e-5)
    crowd = Detections([BOX] * len(scores), scores)  # more boxes than members
    assert WeightedBoxesFusion().fuse([crowd], [1], SIZE).scores.tolist() == pytest.approx([np.mean(scores)], rel=1e-5)


@given(scores=st.lists(st.floats(0.0078125, 1, width=32), min_size=2, max_size=5), shift=st.floats(-2, 2))
def test_a_box_that_all_members_see_scores_at_least_the_mean(scores, shift):
    members = [one(s, [10 + shift * i / 5, 20, 50, 90]) for i, s in enumerate(scores)]
    found = WeightedBoxesFusion().fuse(members, [1] * len(members), SIZE)
    assert len(found) == 1
    assert found.scores[0] >= np.mean(scores) - 1e-6


def test_equations_4_and_5():
    members = [one(0.8, [10, 10, 50, 50]), one(0.4, [13, 10, 50, 56])]
    found = WeightedBoxesFusion().fuse(members, [1, 1], SIZE)
    np.testing.assert_allclose(found.boxes, [[11, 10, 50, 52]], rtol=1e-6)
    found = WeightedBoxesFusion().fuse(members, [1, 4], SIZE)
    np.testing.assert_allclose(found.boxes, [[12, 10, 50, 54]], rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_fused_boxes_lie_in_the_hull_of_the_boxes_that_they_overlap(data, fake):
    members = data.draw(fake.member_lists(labels=1))
    found = WeightedBoxesFusion().fuse(members, [1] * len(members), fake.size)
    sources = np.concatenate([member.boxes for member in members])
    for box in found.boxes:
        meets = (np.minimum(sources[:, 2:], box[2:]) > np.maximum(sources[:, :2], box[:2])).all(1)
        hull = np.append(sources[meets, :2].min(0), sources[meets, 2:].max(0))
        assert (box[:2] >= hull[:2]).all()
        assert (box[2:] <= hull[2:]).all()


def test_classes_are_fused_apart():
    members = [Detections([BOX], [0.9], [0]), Detections([BOX], [0.8], [1])]
    found = WeightedBoxesFusion(final_nms=0.1).fuse(members, [1, 1], SIZE)
    assert found.labels.tolist() == [0, 1]
    np.testing.assert_allclose(found.scores, [0.45, 0.4])


def test_the_final_suppression_drops_what_still_overlaps():
    members = [one(0.9, [0, 0, 40, 40]), one(0.8, [0, 0, 40, 20])]
    assert len(WeightedBoxesFusion(0.55).fuse(members, [1, 1], SIZE)) == 2
    found = WeightedBoxesFusion(0.55, final_nms=0.4).fuse(members, [1, 1], SIZE)
    assert found.boxes.tolist() == [[0, 0, 40, 40]]
    np.testing.assert_allclose(found.scores, [0.45])  # the dropped one adds nothing


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.7])
def test_a_box_at_the_threshold_takes_part_and_weights_do_not_count(threshold):
    found = WeightedBoxesFusion(skip_box_thr=threshold).fuse([one(threshold), one(threshold - 1e-3)], [0.2, 1], SIZE)
    assert found.scores.tolist() == pytest.approx([threshold * 0.2 / 1.2])
