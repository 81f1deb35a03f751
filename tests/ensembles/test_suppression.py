"""The strategies on ensemble_boxes, against it, torchvision and the papers."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ensemble_boxes import nms, non_maximum_weighted, soft_nms
from numba import njit
from torchvision.ops import batched_nms

from covidmm.ensembles.pooled_boxes import NormBoxes
from covidmm.ensembles.suppression import (
    NonMaximumSuppression,
    NonMaximumWeighted,
    SoftNonMaximumSuppression,
    keep,
    suppressed,
)
from covidmm.findings import Detections
from covidmm.utils.boxes import iou

COUNTS = [(30,), (40, 40), (10, 0, 25, 30)]
counts = pytest.mark.parametrize("counts", COUNTS, ids=str)


@counts
@pytest.mark.parametrize("iou_thr", [0.1, 0.5, 0.8])
def test_nms_agrees_with_ensemble_boxes_and_torchvision(counts, iou_thr, fake):
    for seed in range(5):
        members = fake.members(np.random.default_rng(seed), counts, labels=2)
        found = NonMaximumSuppression(iou_thr).fuse(members, [3] * len(members), fake.size)
        fake.same(found, *nms(*fake.as_lists(members), iou_thr=iou_thr))
        joined = [np.concatenate([getattr(m, name) for m in members]) for name in ("boxes", "scores", "labels")]
        boxes, scores, labels = map(torch.from_numpy, joined)
        kept = batched_nms(boxes.double(), scores.double(), labels, iou_thr).numpy()
        np.testing.assert_allclose(found.scores, joined[1][kept], rtol=1e-6)


def test_nms_with_equal_weights_leaves_scores_alone_where_ensemble_boxes_halves_them():
    members = [Detections([[0, 0, 4, 4]], [0.8]), Detections([[5, 5, 9, 9]], [0.6])]
    boxes = [m.boxes / 10 for m in members]
    _, theirs, _ = nms(boxes, [[0.8], [0.6]], [[0], [0]], weights=[1, 1])
    np.testing.assert_allclose(theirs, [0.4, 0.3])
    np.testing.assert_allclose(NonMaximumSuppression().fuse(members, [1, 1], (10, 10)).scores, [0.8, 0.6])


@pytest.mark.parametrize("strategy", [NonMaximumSuppression(), NonMaximumWeighted()], ids=["nms", "nmw"])
def test_the_heavier_member_wins(strategy):
    members = [Detections([[0, 0, 4, 4]], [0.9]), Detections([[0, 0, 4, 4.1]], [0.6])]
    assert strategy.fuse(members, [1, 1], (10, 10)).scores.tolist() == pytest.approx([0.9])
    assert strategy.fuse(members, [1, 2], (10, 10)).scores.tolist() == pytest.approx([0.6])


@counts
@pytest.mark.parametrize(("iou_thr", "skip"), [(0.55, 0.0), (0.3, 0.4)])
def test_nmw_agrees_with_ensemble_boxes(counts, iou_thr, skip, fake):
    for seed in range(5):
        members = fake.members(np.random.default_rng(seed), counts, labels=2)
        weights = np.arange(1, len(counts) + 1)
        found = NonMaximumWeighted(iou_thr, skip).fuse(members, weights, fake.size)
        expected = non_maximum_weighted(*fake.as_lists(members), weights=weights, iou_thr=iou_thr, skip_box_thr=skip)
        fake.same(found, *expected)


def decayed(boxes, scores, strategy):
    """Soft-NMS as the paper's figure 2 has it, one box after the other."""
    left, found = list(range(len(boxes))), []
    scores = scores.astype(np.float64).copy()
    while left:
        best = max(left, key=lambda i: scores[i])
        left.remove(best)
        found.append((scores[best], *boxes[best]))
        for other in left:
            overlap = iou(boxes[best : best + 1], boxes[other : other + 1])[0, 0]
            if strategy.method == "gaussian":
                scores[other] *= np.exp(-(overlap**2) / strategy.sigma)
            elif overlap > strategy.iou_thr:
                scores[other] *= 1 - overlap
    return np.array([row for row in found if row[0] > strategy.threshold])


@counts
@pytest.mark.parametrize(
    "strategy",
    [
        SoftNonMaximumSuppression(),
        SoftNonMaximumSuppression(sigma=0.1, threshold=0.05),
        SoftNonMaximumSuppression(0.3, method="linear", threshold=0.2),
    ],
    ids=["gaussian", "narrow", "linear"],
)
def test_soft_nms_gives_the_decayed_scores(counts, strategy, fake):
    for seed in range(3):
        members = fake.members(np.random.default_rng(seed), counts, labels=2)
        found = strategy.fuse(members, [1] * len(members), fake.size)
        for label in (0, 1):
            boxes, scores = (
                np.concatenate([getattr(m, name)[m.labels == label] for m in members]) for name in ("boxes", "scores")
            )
            expected = decayed(boxes, scores, strategy)
            own = found.labels == label
            np.testing.assert_allclose(found.scores[own], expected[:, 0], rtol=1e-5)
            np.testing.assert_allclose(found.boxes[own], expected[:, 1:], rtol=1e-5)


def test_ensemble_boxes_returns_the_scores_from_before_the_decay():
    """The trap that is closed above; should the package mend it, this test says so."""
    boxes = np.array([[0, 0, 0.5, 0.5], [0, 0, 0.5, 0.5]])
    _, theirs, _ = soft_nms([boxes], [np.array([0.9, 0.8])], [np.zeros(2)])
    np.testing.assert_allclose(theirs, [0.9, 0.8])
    found = SoftNonMaximumSuppression().fuse([Detections(boxes * 10, [0.9, 0.8])], [1], (10, 10))
    np.testing.assert_allclose(found.scores, [0.9, 0.8 * np.exp(-2)], rtol=1e-6)


def test_suppression_of_nothing_is_nothing():
    nothing = NormBoxes(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))
    assert len(suppressed(nothing, 0.5)) == 0


CODE = """
import numpy as np
from covidmm.ensembles.suppression import bb_intersection_over_union as iou
iou(np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.0, 0.0, 1.0, 2.0]))
print(sum(iou.stats.cache_hits.values()))
"""


def test_the_second_run_does_not_compile(tmp_path):
    environment = {
        **os.environ,
        "NUMBA_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    command = [sys.executable, "-c", CODE]
    runs = [subprocess.run(command, env=environment, capture_output=True, text=True, check=True) for _ in range(2)]
    assert [run.stdout.split() for run in runs] == [["0"], ["1"]]


def test_without_a_place_to_keep_it_a_function_is_compiled_all_the_same(monkeypatch):
    @njit
    def twice(number):
        return 2 * number

    def refuse(self):
        raise RuntimeError("cannot cache function 'twice': no locator available")

    monkeypatch.setattr(type(twice), "enable_caching", refuse)
    keep(twice)
    assert twice(2) == 4
