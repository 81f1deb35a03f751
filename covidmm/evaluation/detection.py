"""How well boxes are found: average precision by pycocotools, and precision, recall and F1 at a threshold.

Boxes are float (N, 4) x1 y1 x2 y2 in one and the same pixel grid; scores (N,) in 0..1.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covidmm.errors import DataError

#: A prediction counts where its IoU with an opacity is greater (the challenge's and the report's criterion).
IOU_THRESHOLD = 0.5


@dataclass(frozen=True)
class Operating:
    """Precision, recall and F1 of all predictions with a score of at least ``threshold``."""

    threshold: float
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class OperatingCurve:
    """Precision and recall as the confidence threshold falls.

    ``scores``, ``precision``, ``recall`` and ``f1`` are (K,) float64, one entry per distinct score,
    highest score first. ``truths`` is the number of ground-truth boxes.
    """

    scores: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    truths: int

    def at(self, threshold: float) -> Operating:
        """The point at a threshold; precision is 0 where nothing is predicted."""
        kept = int(np.searchsorted(-self.scores, -threshold, side="right")) - 1
        if kept < 0:
            return Operating(threshold, 0.0, 0.0, 0.0)
        return Operating(threshold, float(self.precision[kept]), float(self.recall[kept]), float(self.f1[kept]))

    def best_f1(self) -> Operating:
        """The point of the greatest F1, the highest threshold among equals; 1 where nothing is found."""
        if not len(self.f1) or not self.f1.max():
            return Operating(1.0, 0.0, 0.0, 0.0)
        return self.at(float(self.scores[int(self.f1.argmax())]))


def match(boxes: NDArray, scores: NDArray, truths: NDArray, iou_threshold: float = IOU_THRESHOLD) -> NDArray[np.bool_]:
    """Which predictions of one image are true positives.

    In order of falling score, a prediction is one if the ground truth that it overlaps most has an IoU
    greater than ``iou_threshold`` and was not claimed before (system-spec section 8).

    Args:
        boxes: (N, 4).
        scores: (N,).
        truths: (M, 4).

    Returns:
        (N,) in the order of ``boxes``.
    """
    hits = np.zeros(len(boxes), bool)
    if not len(boxes) or not len(truths):
        return hits
    overlaps = iou(boxes, truths)
    nearest = overlaps.argmax(1)
    claimed: set[int] = set()
    for index in np.argsort(-scores, kind="stable"):
        truth = int(nearest[index])
        if overlaps[index, truth] > iou_threshold and truth not in claimed:
            claimed.add(truth)
            hits[index] = True
    return hits


def iou(first: NDArray, second: NDArray) -> NDArray[np.float64]:
    """Intersection over union of (N, 4) and (M, 4) boxes: (N, M)."""
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=-1)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=-1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1][None, :] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def operating_curve(predictions: Sequence[tuple[NDArray, NDArray]], truths: Sequence[NDArray]) -> OperatingCurve:
    """Pool the predictions of all images, images without boxes included, and sweep the threshold.

    Args:
        predictions: per image, (N, 4) boxes and (N,) scores.
        truths: per image, (M, 4) boxes.

    Raises:
        DataError: there is no ground-truth box in any image.
    """
    total = sum(len(boxes) for boxes in truths)
    if not total:
        raise DataError("recall is undefined: none of the evaluated images has a ground-truth box")
    hits = [match(boxes, scores, truth) for (boxes, scores), truth in zip(predictions, truths, strict=True)]
    scores = np.concatenate([np.asarray(scores, np.float64) for _, scores in predictions] or [np.zeros(0)])
    order = np.argsort(-scores, kind="stable")
    scores = scores[order]
    found = np.cumsum(np.concatenate(hits or [np.zeros(0, bool)])[order])
    # equal scores pass a threshold together
    last = np.flatnonzero(np.append(np.diff(scores) != 0, True)) if len(scores) else np.zeros(0, int)
    found, kept = found[last].astype(np.float64), last + 1.0
    precision, recall = found / kept, found / total
    f1 = 2 * found / (kept + total)
    return OperatingCurve(scores[last], precision, recall, f1, total)


def average_precision(ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """mAP at IoU 0.50 and over 0.50:0.95 by pycocotools' COCOeval (at most 100 boxes per image).

    Args:
        ground_truth: a COCO detection file's content.
        results: a COCO results list; boxes x y width height.

    Returns:
        ``mAP_50`` and ``mAP``; 0 for both where there are no results at all.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    if not results:
        return {"mAP_50": 0.0, "mAP": 0.0}
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {"info": {}, **ground_truth}
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes([dict(result) for result in results]), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {"mAP_50": float(evaluation.stats[1]), "mAP": float(evaluation.stats[0])}


def score_detections(
    ground_truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    threshold: float | None = None,
) -> dict[str, float]:
    """Every detection metric of one data set.

    Precision, recall and F1 are taken at ``threshold``, which belongs to a *validation* set. Where none is
    given it is the one that maximises F1 here, as the report did on its test set: optimistic there, right on
    validation. ``best_f1`` always tells that maximum.

    Args:
        ground_truth: a COCO detection file's content.
        results: a COCO results list.

    Returns:
        ``mAP_50, mAP, f1, precision, recall, threshold, best_f1, best_f1_threshold, images, boxes``.

    Raises:
        DataError: no ground-truth box, or a result for an image that the ground truth lacks.
    """
    by_image: dict[int, tuple[list, list, list]] = {i["id"]: ([], [], []) for i in ground_truth["images"]}
    for annotation in ground_truth["annotations"]:
        by_image[annotation["image_id"]][2].append(_corners(annotation["bbox"]))
    for result in results:
        if result["image_id"] not in by_image:
            raise DataError(f"prediction for image {result['image_id']}, which the ground truth does not have")
        boxes, scores, _ = by_image[result["image_id"]]
        boxes.append(_corners(result["bbox"]))
        scores.append(result["score"])
    curve = operating_curve(
        [(np.array(b, float).reshape(-1, 4), np.array(s, float)) for b, s, _ in by_image.values()],
        [np.array(t, float).reshape(-1, 4) for *_, t in by_image.values()],
    )
    best = curve.best_f1()
    chosen = best if threshold is None else curve.at(threshold)
    return {
        **average_precision(ground_truth, results),
        "f1": chosen.f1,
        "precision": chosen.precision,
        "recall": chosen.recall,
        "threshold": chosen.threshold,
        "best_f1": best.f1,
        "best_f1_threshold": best.threshold,
        "images": len(by_image),
        "boxes": curve.truths,
    }


def _corners(xywh: Sequence[float]) -> list[float]:
    x, y, width, height = xywh
    return [x, y, x + width, y + height]
