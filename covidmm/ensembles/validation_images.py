"""Validation images for the choice of a fusion, and the metric by which it is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from covidmm.ensembles.pooled_boxes import NormBoxes, Pool, pooled
from covidmm.errors import DataError
from covidmm.evaluation.detection import IOU_THRESHOLD
from covidmm.findings import Detections
from covidmm.utils.boxes import iou

#: COCOeval's: the most boxes of an image that count, and the recalls at which precision is taken.
_MOST_BOXES = 100
_RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class FusionCase:
    """One image of the validation split with what the members found, of one class.

    Attributes:
        members: what each detector found, boxes in pixels of the original image.
        size: its height and width.
        truths: (N, 4) true boxes x1 y1 x2 y2 in the same pixels.
        group: images of one group, a study or a patient, stay on one side of a cross-validation; without one an
            image is a group of its own.
    """

    members: Sequence[Detections]
    size: tuple[int, int]
    truths: ArrayLike
    group: str = ""


@dataclass(frozen=True)
class PooledCases:
    """The cases, pooled once for any number of fusions.

    Attributes:
        pools: the members' boxes of each image.
        truths: (N, 4) of each image, as shares of its size.
        groups: (images,) the group of each image as a number.
        count: members of every image.
    """

    pools: tuple[Pool, ...]
    truths: tuple[NDArray[np.float64], ...]
    groups: NDArray[np.int64]
    count: int

    def __len__(self) -> int:
        return len(self.pools)

    def take(self, chosen: NDArray[np.int64]) -> PooledCases:
        """Some of the images."""
        pools, truths = ([values[i] for i in chosen.tolist()] for values in (self.pools, self.truths))
        return PooledCases(tuple(pools), tuple(truths), self.groups[chosen], self.count)


def pool_cases(cases: Sequence[FusionCase]) -> PooledCases:
    """Check the cases and pool them.

    Raises:
        DataError: no case, no true box in any of them, cases with different numbers of members, boxes of more than
            one class, or true boxes that are not finite and (N, 4).
    """
    if not cases:
        raise DataError("a fusion cannot be chosen without validation images")
    count = len(cases[0].members)
    pools, truths = [], []
    for number, case in enumerate(cases):
        if len(case.members) != count or not count:
            raise DataError(f"case {number}: {len(case.members)} members, where case 0 has {count}")
        height, width = case.size
        pools.append(pooled(case.members, case.size))
        truth = np.asarray(case.truths, np.float64)
        if truth.size and (truth.ndim != 2 or truth.shape[1] != 4 or not np.isfinite(truth).all()):
            raise DataError(f"case {number}: true boxes must be finite and (N, 4), not {truth.shape}")
        truths.append(truth.reshape(-1, 4) / [width, height, width, height])
    if not any(map(len, truths)):
        raise DataError("a fusion cannot be chosen on images of which none has a true box")
    classes = np.unique(np.concatenate([pool.labels for pool in pools]))
    if len(classes) > 1:
        raise DataError(f"a fusion is chosen for one class, but the boxes are of {len(classes)}: {classes.tolist()}")
    names = [case.group or f"\0{number}" for number, case in enumerate(cases)]
    return PooledCases(tuple(pools), tuple(truths), np.unique(names, return_inverse=True)[1], count)


def mean_ap_50(fused: Sequence[NormBoxes], truths: Sequence[NDArray[np.float64]]) -> float:
    """AP at IoU 0.50 of one class: COCOeval's value, without the detour through its dicts.

    Args:
        fused: the boxes of each image, the highest score first.
        truths: (N, 4) true boxes of each image; one at least in all of them.
    """
    hits = [_coco_hits(found.boxes[:_MOST_BOXES], truth) for found, truth in zip(fused, truths, strict=True)]
    scores = np.concatenate([found.scores[:_MOST_BOXES] for found in fused])
    right = np.cumsum(np.concatenate(hits)[np.argsort(-scores, kind="stable")])
    if not len(right):
        return 0.0
    recall = right / sum(map(len, truths))
    precision = right / np.arange(1, len(right) + 1)
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0)
    return float(envelope[np.searchsorted(recall, _RECALLS)].mean())


def _coco_hits(boxes: NDArray[np.float64], truths: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(N,) which boxes, the best first, are true positives: each claims the best truth that is still free."""
    hits = np.zeros(len(boxes), bool)
    if not len(boxes) or not len(truths):
        return hits
    overlaps = iou(boxes, truths)
    for number in np.flatnonzero(overlaps.max(1) >= IOU_THRESHOLD).tolist():
        best = int(overlaps[number].argmax())
        if overlaps[number, best] >= IOU_THRESHOLD:
            hits[number] = True
            overlaps[:, best] = -1
    return hits
