from dataclasses import replace

import numpy as np
import pytest

from covidmm.ensembles.pooled_boxes import NormBoxes
from covidmm.ensembles.sweep import Grid, ratios, sweep
from covidmm.ensembles.validation_images import ClassCases, mean_ap_50
from covidmm.ensembles.wbf import WeightedBoxesFusion
from covidmm.errors import ConfigError, DataError
from covidmm.evaluation.detection import rank

NAMES = ("frcnn", "yolo")


def one_class(cases):
    return {"opacity": ClassCases(NAMES, cases)}


def test_a_row_is_what_the_strategy_of_its_parameters_scores(fake):
    cases = fake.cases(0, 24)
    grid = Grid(iou_thr=(0.4, 0.6), skip_box_thr=(0.0, 0.3), weights=[(1, 1), (1, 2)], final_nms=(None, 0.3))
    rows = sweep(one_class(cases), NAMES, grid)
    assert len(rows) == 16
    assert len({row["mAP_50"] for row in rows}) > 8  # every parameter has an effect
    for row in rows[::5]:
        strategy = WeightedBoxesFusion(row["iou_thr"], row["skip_box_thr"], row["final_nms"])
        fused = [strategy.fuse(case.members, row["weights"], case.size) for case in cases]
        curve = rank([(f.boxes, f.scores) for f in fused], [case.truths for case in cases]).operating_curve()
        assert row["f1"] == pytest.approx(curve.best_f1().f1)
        assert row["threshold"] == pytest.approx(curve.best_f1().threshold, abs=1e-6)
        scale = np.array(fake.size)[[1, 0, 1, 0]]
        shares = [NormBoxes(f.boxes / scale, f.scores.astype(np.float64), f.labels) for f in fused]
        assert row["mAP_50"] == pytest.approx(mean_ap_50(shares, cases), abs=1e-6)


def test_the_same_point_serves_every_class_and_its_voters(fake):
    """Each class is scored as if it were alone, with the weights of the members that find it."""
    both, alone = fake.cases(0, 12), fake.cases(1, 12)
    alone = [replace(case, members=case.members[1:]) for case in alone]
    classes = {"opacity": ClassCases(NAMES, both), "nodule": ClassCases(("yolo",), alone)}
    grid = Grid(iou_thr=(0.5,), skip_box_thr=(0.0, 0.3), weights=[(1, 3)])
    rows = sweep(classes, NAMES, grid)
    first = sweep({"opacity": classes["opacity"]}, NAMES, grid)
    second = sweep({"nodule": ClassCases(("yolo",), alone)}, ("yolo",), replace(grid, weights=[(3,)]))
    for row, one, other in zip(rows, first, second, strict=True):
        assert (row["AP_50 opacity"], row["AP_50 nodule"]) == (one["mAP_50"], other["mAP_50"])
        assert row["mAP_50"] == pytest.approx((one["mAP_50"] + other["mAP_50"]) / 2)
        assert row["f1"] == pytest.approx((one["f1"] + other["f1"]) / 2)
        assert "threshold" not in row


def test_progress_is_told_and_the_default_grid_covers_the_ratios(fake):
    told = []
    rows = sweep(
        one_class(fake.cases(0, 6)), NAMES, Grid(iou_thr=(0.5,), skip_box_thr=(0.0,)), lambda *at: told.append(at)
    )
    assert [row["weights"] for row in rows] == [list(map(float, w)) for w in ratios(2)]
    assert told == [(k, len(rows)) for k in range(1, len(rows) + 1)]


def test_ratios_are_different_and_begin_with_equal_ones():
    assert ratios(2) == [(1, 1), (1, 2), (2, 1), (1, 3), (2, 3), (3, 1), (3, 2)]
    assert ratios(1) == [(1,)]
    assert len(ratios(3)) == len({tuple(np.array(w) / sum(w)) for w in ratios(3)}) == 25


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (Grid(iou_thr=(0.5, 2)), "grid: iou_thr must be a number in 0..1, not 2"),
        (Grid(weights=[(1, 1), (1,)]), "weights must be 2 positive numbers"),
    ],
)
def test_a_grid_that_cannot_be_is_refused_before_anything_is_fused(grid, message, fake):
    with pytest.raises(ConfigError, match=message):
        sweep(one_class(fake.cases(0, 6)), NAMES, grid, lambda *_: pytest.fail("began"))


def test_without_cases_there_is_nothing_to_sweep():
    with pytest.raises(DataError, match="without validation images"):
        sweep({}, NAMES)
