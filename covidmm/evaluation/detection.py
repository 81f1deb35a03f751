"""How well boxes are found: average precision by COCOeval, and precision, recall and F1 at a threshold.

Boxes are float (N, 4) x1 y1 x2 y2 in one and the same pixel grid; scores (N,) in 0..1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covidmm.errors import DataError
from covidmm.evaluation.coco_eval import fast_coco_evaluation
from covidmm.utils.boxes import corners, iou

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

    def on(self, thresholds: NDArray) -> NDArray[np.float64]:
        """Precision, recall and F1 (3, T) at (T,) thresholds; 0 where nothing is predicted."""
        predicted = np.searchsorted(-self.scores, -np.asarray(thresholds), side="right")
        points = np.stack([np.append(0.0, values) for values in (self.precision, self.recall, self.f1)])
        return points[:, predicted]

    def at(self, threshold: float) -> Operating:
        """The point at a threshold; precision is 0 where nothing is predicted."""
        precision, recall, f1 = self.on(np.array([threshold]))[:, 0].tolist()
        return Operating(threshold, precision, recall, f1)

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
    nearest, best = overlaps.argmax(1), overlaps.max(1)
    order = np.argsort(-np.asarray(scores), kind="stable")
    claiming = order[best[order] > iou_threshold]
    # a truth goes to the first that claims it, and nobody claims a second choice
    _, first = np.unique(nearest[claiming], return_index=True)
    hits[claiming[first]] = True
    return hits


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


def mean_curve(curves: Sequence[OperatingCurve]) -> OperatingCurve:
    """The mean of several classes' curves at every threshold at which one of them changes."""
    if len(curves) == 1:
        return curves[0]
    scores = np.unique(np.concatenate([curve.scores for curve in curves]))[::-1]
    precision, recall, f1 = np.mean([curve.on(scores) for curve in curves], axis=0)
    return OperatingCurve(scores, precision, recall, f1, sum(curve.truths for curve in curves))


def average_precision(
    ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]]
) -> dict[int, dict[str, float]]:
    """AP at IoU 0.50 and over 0.50:0.95 by COCOeval (at most 100 boxes per image).

    It is faster-coco-eval's, whose numbers are those of pycocotools within 1e-12 (tests/evaluation).

    Args:
        ground_truth: a COCO detection file's content.
        results: a COCO results list; boxes x y width height.

    Returns:
        ``mAP_50`` and ``mAP`` of each category id that has a box; 0 where it has no result.
    """
    categories = sorted({annotation["category_id"] for annotation in ground_truth["annotations"]})
    if not results:
        return {category: {"mAP_50": 0.0, "mAP": 0.0} for category in categories}
    evaluation = fast_coco_evaluation(ground_truth, results)
    evaluation.params.catIds = categories
    evaluation.evaluate()
    evaluation.accumulate()
    # (IoU thresholds, recalls, categories), of all sizes and with 100 boxes
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    return {
        category: {"mAP_50": float(precision[0, :, k].mean()), "mAP": float(precision[:, :, k].mean())}
        for k, category in enumerate(categories)
    }


def score_detections(
    ground_truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    threshold: float | None = None,
) -> dict[str, float]:
    """Every detection metric of one data set.

    Precision, recall and F1 are taken at ``threshold``, which belongs to a *validation* set. Where none is
    given it is the one that maximises F1 here, as the report did on its test set: optimistic there, right on
    validation. ``best_f1`` always tells that maximum. Of several categories these are the means over those
    that have a box, and each category's own values carry its name, as in ``mAP_50_opacity``.

    Args:
        ground_truth: a COCO detection file's content.
        results: a COCO results list.
        threshold: the confidence that a prediction needs.

    Returns:
        ``mAP_50, mAP, f1, precision, recall, threshold, best_f1, best_f1_threshold, images, boxes``.

    Raises:
        DataError: no ground-truth box; a result or annotation for an image or a category that the ground
            truth lacks; a result with a box or score that is not finite.
    """
    curves = _curves(ground_truth, results)
    areas = average_precision(ground_truth, results)
    curve = mean_curve(list(curves.values()))
    best = curve.best_f1()
    chosen = best if threshold is None else curve.at(threshold)
    metrics: dict[str, float] = {
        **{name: float(np.mean([area[name] for area in areas.values()])) for name in ("mAP_50", "mAP")},
        **_point(chosen),
        "threshold": chosen.threshold,
        "best_f1": best.f1,
        "best_f1_threshold": best.threshold,
        "images": len(ground_truth["images"]),
        "boxes": curve.truths,
    }
    if len(ground_truth["categories"]) > 1:
        names = {category["id"]: category["name"] for category in ground_truth["categories"]}
        for category, own in curves.items():
            values = {**areas[category], **_point(own.at(chosen.threshold))}
            metrics.update({f"{key}_{names[category]}": value for key, value in values.items()})
    return metrics


def require_finite(results: Sequence[Mapping[str, Any]]) -> None:
    """Refuse what a diverged model predicts.

    Args:
        results: a COCO results list.

    Raises:
        DataError: a box or a score is infinite or not a number.
    """
    values = np.array([[*result["bbox"], result["score"]] for result in results], np.float64).reshape(-1, 5)
    broken = np.flatnonzero(~np.isfinite(values).all(1))
    if len(broken):
        result = results[broken[0]]
        raise DataError(
            f"prediction for image {result['image_id']}: box or score is not finite "
            f"(bbox {result['bbox']}, score {result['score']}); the model has diverged"
        )


def _curves(ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> dict[int, OperatingCurve]:
    """The curve of each category id that has a box."""
    images = {image["id"] for image in ground_truth["images"]}
    categories = {category["id"] for category in ground_truth["categories"]}
    truths = _by_category(ground_truth["annotations"], "annotation", images, categories)
    found = _by_category(results, "prediction", images, categories)
    require_finite(results)
    if not truths:
        raise DataError("recall is undefined: none of the evaluated images has a ground-truth box")
    curves = {}
    for category, wanted in sorted(truths.items()):
        mine = found.get(category, {})
        predictions = [
            (corners([r["bbox"] for r in mine.get(image, [])]), np.array([r["score"] for r in mine.get(image, [])]))
            for image in images
        ]
        curves[category] = operating_curve(
            predictions, [corners([a["bbox"] for a in wanted.get(image, [])]) for image in images]
        )
    return curves


def _by_category(
    entries: Sequence[Mapping[str, Any]], kind: str, images: set[int], categories: set[int]
) -> dict[int, dict[int, list[Mapping[str, Any]]]]:
    """Category id -> image id -> entries."""
    grouped: dict[int, dict[int, list[Mapping[str, Any]]]] = {}
    for entry in entries:
        for name, known in (("image", images), ("category", categories)):
            if entry[f"{name}_id"] not in known:
                raise DataError(f"{kind} for {name} {entry[f'{name}_id']}, which the ground truth does not have")
        grouped.setdefault(entry["category_id"], {}).setdefault(entry["image_id"], []).append(entry)
    return grouped


def _point(point: Operating) -> dict[str, float]:
    return {"f1": point.f1, "precision": point.precision, "recall": point.recall}
