"""A grid of fusion parameters, each point scored on validation predictions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covidmm.ensembles.pooled_boxes import require_weights
from covidmm.ensembles.validation_images import ClassCases, mean_ap_50, require_cases
from covidmm.ensembles.wbf import WeightedBoxesFusion
from covidmm.errors import ConfigError, DataError
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
    classes: Mapping[str, ClassCases],
    names: Sequence[str],
    grid: Grid | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Score weighted boxes fusion at every point of a grid, the same point for every class.

    Args:
        classes: by class, the images of the validation split, never of the test split.
        names: of the ensemble's members.
        grid: the values to try.
        progress: called with the points done and their number after each.

    Returns:
        A row per point, in the grid's order: ``iou_thr``, ``skip_box_thr``, ``weights``, ``final_nms``, ``mAP_50``
        (COCOeval's AP at IoU 0.50, the mean of the classes) and ``f1`` (the greatest one, likewise). With one class
        also the ``threshold`` at which that is reached, with several the AP of each as ``AP_50 NAME``.

    Raises:
        DataError: no class, or cases that cannot be scored, see
            :func:`covidmm.ensembles.validation_images.require_cases`.
        ConfigError: a value out of its range, or weights that do not fit; before anything is fused.
    """
    grid = grid or Grid()
    if not classes:
        raise DataError("a fusion cannot be chosen without validation images")
    for one in classes.values():
        require_cases(one.cases)
    given = ratios(len(names)) if grid.weights is None else grid.weights
    weights = [require_weights(one, len(names)) for one in given]
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
        scored = {
            name: _scored(one, strategy, own[[names.index(voter) for voter in one.voters]])
            for name, one in classes.items()
        }
        rows.append(
            {
                "iou_thr": strategy.iou_thr,
                "skip_box_thr": strategy.skip_box_thr,
                "weights": own.tolist(),
                "final_nms": strategy.final_nms,
                **_means(scored),
            }
        )
        if progress is not None:
            progress(len(rows), len(points))
    return rows


def _scored(
    one: ClassCases, strategy: WeightedBoxesFusion, weights: NDArray[np.float64]
) -> tuple[float, float, float | None]:
    """The AP at IoU 0.50 of one class, its greatest F1, and the threshold of that."""
    fused = [strategy.fuse_pool(case.pool, weights) for case in one.cases]
    found = [(boxes.boxes, boxes.scores) for boxes in fused]
    best = rank(found, [case.truths_norm for case in one.cases]).operating_curve().best_f1()
    return mean_ap_50(fused, one.cases), best.f1, best.threshold


def _means(scored: Mapping[str, tuple[float, float, float | None]]) -> dict[str, Any]:
    areas, best, thresholds = zip(*scored.values(), strict=True)
    means = {"mAP_50": float(np.mean(areas)), "f1": float(np.mean(best))}
    if len(scored) == 1:
        return means | {"threshold": thresholds[0]}
    return means | {f"AP_50 {name}": area for name, area in zip(scored, areas, strict=True)}


def ratios(count: int, greatest: int = 3) -> list[tuple[int, ...]]:
    """The different ratios that weights of 1..``greatest`` give ``count`` members, equal ones first."""
    found = [w for w in itertools.product(range(1, greatest + 1), repeat=count) if math.gcd(*w) == 1]
    return sorted(found, key=lambda w: (int(np.max(w)), w))
