"""A grid of fusion parameters, each point scored on validation predictions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from covidmm.ensembles.pooled_boxes import require_weights
from covidmm.ensembles.validation_images import FusionCase, mean_ap_50, require_cases
from covidmm.ensembles.wbf import WeightedBoxesFusion
from covidmm.errors import ConfigError
from covidmm.evaluation.detection import rank


@dataclass(frozen=True)
class Grid:
    """The values to try, all with all; the default ones are chosen here.

    Attributes:
        iou_thr: IoU above which boxes are fused.
        skip_box_thr: score below which a box takes no part.
        weights: one tuple per try, a number per member; None for all ratios of 1, 2 and 3.
        final_nms: IoU of the suppression after the fusion, None for none.
    """

    iou_thr: Sequence[float] = (0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7)
    skip_box_thr: Sequence[float] = (0.0, 0.01, 0.05, 0.1, 0.2)
    weights: Sequence[Sequence[float]] | None = None
    final_nms: Sequence[float | None] = (None,)


def sweep(
    cases: Sequence[FusionCase], grid: Grid | None = None, progress: Callable[[int, int], None] | None = None
) -> list[dict[str, Any]]:
    """Score weighted boxes fusion at every point of a grid.

    Args:
        cases: images of the validation split, never of the test split.
        grid: the values to try.
        progress: called with the points done and their number after each.

    Returns:
        A row per point, in the grid's order: ``iou_thr``, ``skip_box_thr``, ``weights``, ``final_nms``, ``mAP_50``
        (COCOeval's), ``f1`` (the greatest one) and the ``threshold`` at which that is reached.

    Raises:
        DataError: cases that cannot be scored, see :func:`covidmm.ensembles.validation_images.require_cases`.
        ConfigError: a value out of its range, or weights that do not fit; before anything is fused.
    """
    grid = grid or Grid()
    count = require_cases(cases)
    weights = [require_weights(one, count) for one in (ratios(count) if grid.weights is None else grid.weights)]
    try:
        strategies = [
            WeightedBoxesFusion(iou_thr, skip, final)
            for iou_thr, skip, final in itertools.product(grid.iou_thr, grid.skip_box_thr, grid.final_nms)
        ]
    except ValueError as error:
        raise ConfigError(f"grid: {error}") from error
    points = list(itertools.product(strategies, weights))
    rows = []
    for strategy, own in points:
        fused = [strategy.fuse_pool(case.pool, own) for case in cases]
        curve = rank([(one.boxes, one.scores) for one in fused], [case.truths_norm for case in cases]).operating_curve()
        best = curve.best_f1()
        rows.append(
            {
                "iou_thr": strategy.iou_thr,
                "skip_box_thr": strategy.skip_box_thr,
                "weights": own.tolist(),
                "final_nms": strategy.final_nms,
                "mAP_50": mean_ap_50(fused, cases),
                "f1": best.f1,
                "threshold": best.threshold,
            }
        )
        if progress is not None:
            progress(len(rows), len(points))
    return rows


def ratios(count: int, greatest: int = 3) -> list[tuple[int, ...]]:
    """The different ratios that weights of 1..``greatest`` give ``count`` members, equal ones first."""
    found = [w for w in itertools.product(range(1, greatest + 1), repeat=count) if math.gcd(*w) == 1]
    return sorted(found, key=lambda w: (int(np.max(w)), w))
