"""Non-maximum suppression, its soft form and non-maximum weighting, by ``ensemble_boxes``, class by class.

Scores count times weight / greatest weight, so that equal weights leave them as they are. (``ensemble_boxes`` does so
in NMW; in NMS it divides by the sum, which halves every score of two equal members.)
"""

from __future__ import annotations

from numbers import Real
from typing import Literal

import numpy as np
from ensemble_boxes import nms, non_maximum_weighted
from ensemble_boxes.ensemble_boxes_nms import cpu_soft_nms_float, nms_float_fast
from ensemble_boxes.ensemble_boxes_nmw import bb_intersection_over_union
from numba.core.dispatcher import Dispatcher
from numpy.typing import NDArray

from covidmm.ensembles.pooled_boxes import NormBoxes, PooledStrategy, require_unit

#: NMW averages in float32, in which coordinates weighted by less are lost; also keeps it from dividing 0 by 0.
_LEAST_SCORE = 1e-30
#: The numbers that ``ensemble_boxes`` gives the two decays.
_METHODS = {"linear": 1, "gaussian": 2}


def keep(*functions: Dispatcher) -> None:
    """Keep numba's machine code on the disk, beside the source or in the user's cache: compiling takes seconds.

    Args:
        functions: made by ``numba.njit`` and not called yet.
    """
    for function in functions:
        try:
            function.enable_caching()
        except RuntimeError:  # numba found no folder that it may write to: it compiles in each run
            return


# used by nms and non_maximum_weighted below
keep(nms_float_fast, bb_intersection_over_union)


class NonMaximumSuppression(PooledStrategy):
    """Keeps a box unless a better one of its class overlaps it too much.

    Args:
        iou_thr: IoU above which the box with the lower score is dropped.

    Raises:
        ValueError: ``iou_thr`` outside 0..1.
    """

    def __init__(self, iou_thr: float = 0.5) -> None:
        self.iou_thr = require_unit("iou_thr", iou_thr)

    def fuse_pool(self, pool: NormBoxes, weights: NDArray[np.float64]) -> NormBoxes:
        """Fuse one image; see :meth:`PooledStrategy.fuse_pool`."""
        return suppressed(_weighted(pool, weights), self.iou_thr)


class SoftNonMaximumSuppression(PooledStrategy):
    """Soft-NMS (Bodla et al., ICCV 2017): a box loses score instead of its place.

    ``ensemble_boxes.soft_nms`` drops boxes by their decayed scores but returns the ones from before the decay, so
    duplicates stay as confident as they were. Here the decayed scores, computed by the package, are the result.

    Args:
        iou_thr: IoU above which ``linear`` decays; ``gaussian`` decays at any overlap.
        sigma: width of the Gaussian, positive.
        threshold: boxes are kept whose decayed score is greater.
        method: ``linear``, times 1 - IoU (equation 1), or ``gaussian``, times exp(-IoU^2 / sigma) (equation 3).

    Raises:
        ValueError: an argument out of its range.
    """

    def __init__(
        self,
        iou_thr: float = 0.5,
        sigma: float = 0.5,
        threshold: float = 0.001,
        method: Literal["linear", "gaussian"] = "gaussian",
    ) -> None:
        if method not in _METHODS:
            raise ValueError(f"method must be one of {', '.join(_METHODS)}, not {method!r}")
        if not isinstance(sigma, Real) or not 0 < sigma < np.inf:
            raise ValueError(f"sigma must be a positive number, not {sigma!r}")
        self.iou_thr = require_unit("iou_thr", iou_thr)
        self.sigma = float(sigma)
        self.threshold = require_unit("threshold", threshold)
        self.method = method

    def fuse_pool(self, pool: NormBoxes, weights: NDArray[np.float64]) -> NormBoxes:
        """Fuse one image; see :meth:`PooledStrategy.fuse_pool`."""
        found = _weighted(pool, weights)
        kept, scores = [np.zeros(0, np.int64)], [np.zeros(0)]
        for label in np.unique(found.labels):
            own = np.flatnonzero(found.labels == label)
            decayed = found.scores[own]  # a copy, which the call decays and puts into the order of its choice
            chosen = cpu_soft_nms_float(
                found.boxes[own], decayed, self.iou_thr, self.sigma, self.threshold, _METHODS[self.method]
            )
            kept.append(own[chosen])
            scores.append(decayed[decayed > self.threshold])
        index = np.concatenate(kept)
        return NormBoxes(found.boxes[index], np.concatenate(scores), found.labels[index]).best_first()


class NonMaximumWeighted(PooledStrategy):
    """Non-maximum weighting (Zhou et al., CAD, ICCV workshops 2017).

    A box joins the best box that it overlaps; coordinates are means weighted by score times IoU with that best box,
    whose score the cluster keeps, however many members agree.

    Args:
        iou_thr: IoU above which boxes are joined.
        skip_box_thr: boxes with a lower score, weights aside, take no part.

    Raises:
        ValueError: an argument out of its range.
    """

    def __init__(self, iou_thr: float = 0.55, skip_box_thr: float = 0.0) -> None:
        self.iou_thr = require_unit("iou_thr", iou_thr)
        self.skip_box_thr = require_unit("skip_box_thr", skip_box_thr)

    def fuse_pool(self, pool: NormBoxes, weights: NDArray[np.float64]) -> NormBoxes:
        """Fuse one image; see :meth:`PooledStrategy.fuse_pool`."""
        found = _weighted(pool.take(pool.scores >= np.float32(self.skip_box_thr)), weights)
        counted = found.scores >= _LEAST_SCORE
        boxes, scores, labels = non_maximum_weighted(
            [found.boxes[counted]], [found.scores[counted]], [found.labels[counted]], iou_thr=self.iou_thr
        )
        # means in float32 can leave 0..1 by a rounding error
        return NormBoxes(boxes.astype(np.float64).clip(0, 1), scores.astype(np.float64), labels.astype(np.int64))


def suppressed(found: NormBoxes, iou_thr: float) -> NormBoxes:
    """Non-maximum suppression, class by class: what is left, the highest score first."""
    if not len(found):
        return found
    boxes, scores, labels = nms([found.boxes], [found.scores], [found.labels], iou_thr=iou_thr)
    return NormBoxes(boxes, scores, labels).best_first()


def _weighted(pool: NormBoxes, weights: NDArray[np.float64]) -> NormBoxes:
    """The pool with scores times weight / greatest weight."""
    return NormBoxes(pool.boxes, pool.scores * (weights / weights.max())[pool.members], pool.labels)
