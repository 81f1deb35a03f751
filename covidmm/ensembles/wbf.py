"""Weighted boxes fusion (Solovyev et al., Image and Vision Computing 107, 2021).

The sequential part runs here as one compiled loop, in float64 and some hundred times as fast as
``ensemble_boxes.weighted_boxes_fusion``, which it agrees with; its scores can exceed 1, and they cannot be put right
from outside because it does not say which boxes went into which.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numba import njit
from numpy.typing import NDArray

from covidmm.ensembles.pooled_boxes import NormBoxes, PooledStrategy, require_unit
from covidmm.ensembles.suppression import keep, suppressed

ConfType = Literal["avg", "max", "box_and_model_avg", "absent_model_aware_avg"]


class WeightedBoxesFusion(PooledStrategy):
    r"""Weighted boxes fusion, class by class.

    Boxes are taken by falling weighted score. Each joins the fused box with which its IoU is greatest and above
    ``iou_thr``, or begins a new one. Of a cluster of T boxes i, found by members with weights :math:`w_i` among M
    members, the coordinates are the means weighted by :math:`w_i s_i` (equations 4 and 5), and the score is

    .. math:: \frac{\sum w_i s_i}{\sum w_i} \cdot \frac{\min(\sum w_i, W)}{W}, \qquad W = \sum_{m=1}^M w_m

    With equal weights this is the mean score (equation 3) times min(T, M) / M (equation 6). With unequal ones it is
    what ``ensemble_boxes`` gives as long as no member has two boxes in the cluster; where one has, theirs,
    :math:`\sum w_i s_i / T \cdot \min(T, M) / W`, lets a member with the weight 2 of [2, 1] reach a score of 4/3,
    and this stays a weighted mean, at most 1.

    Args:
        iou_thr: IoU above which boxes are fused.
        skip_box_thr: boxes with a lower score, weights aside, take no part.
        final_nms: IoU above which a fused box gives way to a better one of its class, as in the report; None for no
            suppression after the fusion.
        conf_type: the score of a cluster: ``avg`` as above; ``max``, ``box_and_model_avg`` and
            ``absent_model_aware_avg`` as ``ensemble_boxes`` defines them.

    Raises:
        ValueError: an argument out of its range.
    """

    def __init__(
        self,
        iou_thr: float = 0.55,
        skip_box_thr: float = 0.0,
        final_nms: float | None = None,
        conf_type: ConfType = "avg",
    ) -> None:
        if conf_type not in get_args(ConfType):
            raise ValueError(f"conf_type must be one of {', '.join(get_args(ConfType))}, not {conf_type!r}")
        self.iou_thr = require_unit("iou_thr", iou_thr)
        self.skip_box_thr = require_unit("skip_box_thr", skip_box_thr)
        self.final_nms = None if final_nms is None else require_unit("final_nms", final_nms)
        self.conf_type = conf_type

    def fuse_pool(self, pool: NormBoxes, weights: NDArray[np.float64]) -> NormBoxes:
        """Fuse one image; see :meth:`PooledStrategy.fuse_pool`."""
        if self.skip_box_thr:
            # scores were float32, in which a threshold such as 0.7 is another number than in float64
            pool = pool.take(pool.scores >= np.float32(self.skip_box_thr))
        own = weights[pool.members]
        order = np.argsort(-pool.scores * own, kind="stable")
        pool, own = pool.take(order), own[order]
        boxes, cluster, first = _clusters(pool.boxes, pool.scores * own, pool.labels, self.iou_thr)
        scores = self._scores(cluster, len(boxes), pool, weights)
        fused = NormBoxes(boxes, scores, pool.labels[first]).best_first()
        return fused if self.final_nms is None else suppressed(fused, self.final_nms)

    def _scores(
        self, cluster: NDArray[np.int64], count: int, pool: NormBoxes, weights: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """(K,) the score of each cluster, given (N,) the cluster of each box."""
        own, total = weights[pool.members], weights.sum()
        if self.conf_type == "max":
            highest = np.zeros(count)
            np.maximum.at(highest, cluster, pool.scores * own)
            return highest / weights.max()
        votes = np.bincount(cluster, pool.scores * own, count)
        counted = np.bincount(cluster, own, count)
        if self.conf_type == "avg":
            return votes / np.maximum(counted, total)
        took_part = np.zeros((count, len(weights)), bool)
        took_part[cluster, pool.members] = True
        present = took_part @ weights
        if self.conf_type == "box_and_model_avg":
            return votes / counted * present / total
        return votes / (counted + total - present)


@njit
def _clusters(
    boxes: NDArray[np.float64], strengths: NDArray[np.float64], labels: NDArray[np.int64], iou_thr: float
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Fused boxes (K, 4), the cluster of each box (N,) and the first box of each cluster (K,).

    ``boxes`` (N, 4) come by falling ``strengths`` (N,), the weighted scores.
    """
    size, count = len(boxes), 0
    cluster, first = np.empty(size, np.int64), np.empty(size, np.int64)
    fused, sums, total = np.empty((size, 4)), np.zeros((size, 4)), np.zeros(size)
    for i in range(size):
        best, best_iou = -1, iou_thr
        area = (boxes[i, 2] - boxes[i, 0]) * (boxes[i, 3] - boxes[i, 1])
        for k in range(count):
            if labels[first[k]] != labels[i]:
                continue
            width = min(boxes[i, 2], fused[k, 2]) - max(boxes[i, 0], fused[k, 0])
            height = min(boxes[i, 3], fused[k, 3]) - max(boxes[i, 1], fused[k, 1])
            if width <= 0 or height <= 0:
                continue
            shared = width * height
            other = (fused[k, 2] - fused[k, 0]) * (fused[k, 3] - fused[k, 1])
            iou = shared / (area + other - shared)
            if iou > best_iou:
                best, best_iou = k, iou
        if best < 0:
            best, first[count] = count, i
            fused[best] = boxes[i]
            count += 1
        cluster[i] = best
        sums[best] += strengths[i] * boxes[i]
        total[best] += strengths[i]
        # a single box stays as it is; boxes with scores of 0 say nothing about the place
        if i != first[best] and total[best] > 0:
            fused[best] = sums[best] / total[best]
    return fused[:count].copy(), cluster, first[:count].copy()


keep(_clusters)
