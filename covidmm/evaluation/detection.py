"""The scorer of detections: matching, average precision and operating points.

Boxes are float (N, 4) x1 y1 x2 y2 in one and the same pixel grid; scores (N,) in 0..1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray

from covidmm.datasets.annotated_image import TrueBoxes
from covidmm.errors import DataError
from covidmm.evaluation.coco_dicts import Found, Labelled, found_by_image, require_finite, truths_by_image
from covidmm.evaluation.ranking import OperatingCurve, Ranking, mean_curve
from covidmm.utils.boxes import iou, shares_inside

#: A prediction counts where its IoU with an opacity is greater (the challenge's and the report's criterion).
IOU_THRESHOLD = 0.5
#: What is measured of each class.
PER_CLASS = ("mAP_50", "mAP", "f1", "precision", "recall", "threshold", "best_f1", "best_f1_threshold", "boxes")
#: The most boxes of a class on an image that count in COCOeval's average precision.
_MOST_BOXES = 100
_NONE = np.zeros((0, 4))


def match(boxes: NDArray, scores: NDArray, truths: NDArray, iou_threshold: float = IOU_THRESHOLD) -> NDArray[np.bool_]:
    """Which predictions of one image are true positives by the challenge's rule.

    In order of falling score, a prediction is one if the ground truth that it overlaps most has an IoU
    greater than ``iou_threshold`` and was not claimed before.

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
    # a truth goes to the first that claims it, and no prediction has a second choice
    _, first = np.unique(nearest[claiming], return_index=True)
    hits[claiming[first]] = True
    return hits


def match_classes(
    boxes: NDArray, scores: NDArray, labels: NDArray, truth: TrueBoxes
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which predictions of one image are true positives, class by class, and which do not count, as in every score.

    Args:
        boxes: (N, 4).
        scores: (N,).
        labels: (N,) class indices.
        truth: of the image.

    Returns:
        (N,) true positives as :func:`match` takes them, and (N,) those that are none but lie in a crowd.
    """
    hits = np.zeros(len(boxes), bool)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        hits[own] = match(boxes[own], scores[own], truth.boxes[truth.labels == label])
    return hits, ~hits & in_own_crowd(boxes, labels, truth)


def in_own_crowd(boxes: NDArray, labels: NDArray, truth: TrueBoxes) -> NDArray[np.bool_]:
    """(N,) which boxes (N, 4) of classes (N,) have their larger part in one crowd of their class."""
    inside = shares_inside(boxes, truth.crowds) >= IOU_THRESHOLD
    return (inside & (labels[:, None] == truth.crowd_labels)).any(1)


def _in_crowd(boxes: NDArray, crowds: NDArray) -> NDArray[np.bool_]:
    """(N,) which boxes have their larger part in one crowd: as COCOeval, no false positives if they are no hits."""
    if not len(crowds):  # of most classes on most images
        return np.zeros(len(boxes), bool)
    return (shares_inside(boxes, crowds) >= IOU_THRESHOLD).any(1)


def claims(overlaps: NDArray[np.float64], least: float) -> NDArray[np.intp]:
    """The truth that each prediction takes: of those that no earlier one took, the one that it overlaps most.

    Args:
        overlaps: (N, M) IoU of predictions, in their order, and truths.
        least: the IoU that is enough.

    Returns:
        (N,) places of truths, the first of equals; -1 for none.
    """
    taken = np.full(len(overlaps), -1)
    if overlaps.size:
        left = overlaps.copy()
        for number in np.flatnonzero(overlaps.max(1) >= least).tolist():
            best = int(left[number].argmax())
            if left[number, best] >= least:
                taken[number] = best
                left[:, best] = -1
    return taken


def coco_match(
    boxes: NDArray, scores: NDArray, truths: NDArray, crowds: NDArray = _NONE
) -> tuple[NDArray, NDArray[np.bool_]]:
    """Which predictions of one image COCOeval takes for true at IoU 0.50: what its AP there is made of.

    It differs from :func:`match`: a prediction whose best ground truth was claimed may take another one, an IoU of
    just the threshold is enough, and only the 100 surest of a class on an image count.

    Args:
        boxes: (N, 4).
        scores: (N,).
        truths: (M, 4), none of them a crowd.
        crowds: (K, 4); predictions in one count only if they are true.

    Returns:
        Falling scores and true positives of those that count, at most 100.
    """
    order = np.argsort(-np.asarray(scores), kind="stable")[:_MOST_BOXES]
    # COCOeval takes the last of equally good truths, argmax the first
    hits = claims(iou(boxes[order], truths[::-1]), IOU_THRESHOLD) >= 0
    counts = hits | ~_in_crowd(boxes[order], crowds)
    return scores[order][counts], hits[counts]


def rank(
    found: Sequence[Found],
    truths: Sequence[NDArray],
    clusters: Sequence[int] | None = None,
    coco: bool = False,
    crowds: Sequence[NDArray] | None = None,
) -> Ranking:
    """Pool the predictions of one class on all images, those without boxes included.

    Args:
        found: per image, (N, 4) boxes and (N,) scores.
        truths: per image, (M, 4) boxes.
        clusters: per image, the study that it belongs to, from 0 without gaps; None makes every image a cluster.
        coco: match as COCOeval does at IoU 0.50, for :meth:`~covidmm.evaluation.ranking.Ranking.coco_ap`; else as
            the challenge does, for operating points and its AP.
        crowds: per image, (K, 4): predictions in one that are not true do not count.
    """
    rows = zip(found, truths, crowds or [_NONE] * len(truths), strict=True)
    judge = coco_match if coco else _match_beside_crowds
    matched = [judge(boxes, scores, truth, crowd) for (boxes, scores), truth, crowd in rows]
    return Ranking.of([one for one, _ in matched], [hits for _, hits in matched], list(map(len, truths)), clusters)


def _match_beside_crowds(
    boxes: NDArray, scores: NDArray, truths: NDArray, crowds: NDArray
) -> tuple[NDArray, NDArray[np.bool_]]:
    """Scores and true positives, by :func:`match`, of the predictions that count."""
    hits = match(boxes, scores, truths)
    counts = hits | ~_in_crowd(boxes, crowds)
    return scores[counts], hits[counts]


def rank_each(
    found: Sequence[Labelled],
    truths: Sequence[TrueBoxes],
    classes: int,
    clusters: Sequence[int] | None = None,
    coco: bool = False,
) -> list[Ranking]:
    """Pool the predictions of each class on all images, as :func:`rank` does with those of one.

    Args:
        found: per image, (N, 4) boxes, (N,) scores and (N,) class indices.
        truths: per image.
        classes: the number of classes.
        clusters: as for :func:`rank`.
        coco: as for :func:`rank`.

    Returns:
        By class index.
    """
    judge = coco_match if coco else _match_beside_crowds
    matched = [[(np.zeros(0), np.zeros(0, bool))] * len(truths) for _ in range(classes)]
    counts = np.zeros((classes, len(truths)), np.int64)
    for place, ((boxes, scores, labels), truth) in enumerate(zip(found, truths, strict=True)):
        np.add.at(counts[:, place], truth.labels, 1)
        for label in np.unique(labels).tolist():
            of_class = truth.boxes[truth.labels == label], truth.crowds[truth.crowd_labels == label]
            matched[label][place] = judge(boxes[labels == label], scores[labels == label], *of_class)
    return [
        Ranking.of([scores for scores, _ in own], [hits for _, hits in own], count.tolist(), clusters)
        for own, count in zip(matched, counts, strict=True)
    ]


def average_precision(
    ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]]
) -> dict[int, dict[str, float]]:
    """AP at IoU 0.50 and over 0.50:0.95 by COCOeval (at most the 100 surest boxes of a class per image).

    It is faster-coco-eval's, whose numbers are those of pycocotools within 1e-12 (tests/evaluation).

    Args:
        ground_truth: a COCO detection file's content.
        results: a COCO results list; boxes x y width height.

    Returns:
        ``mAP_50`` and ``mAP`` of each category id that has a box; 0 where it has no result.
    """
    categories = sorted({one["category_id"] for one in ground_truth["annotations"] if not one.get("iscrowd")})
    if not results:
        return {category: {"mAP_50": 0.0, "mAP": 0.0} for category in categories}
    # (IoU thresholds, recalls, categories), of all sizes and with 100 boxes
    precision = coco_precision(ground_truth, results, categories)[:, :, :, 0, -1]
    return {
        category: {"mAP_50": float(precision[0, :, k].mean()), "mAP": float(precision[:, :, k].mean())}
        for k, category in enumerate(categories)
    }


def coco_precision(
    ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], categories: Sequence[int]
) -> NDArray[np.float64]:
    """COCOeval's precision: (IoU thresholds, recalls, categories, sizes, numbers of boxes)."""
    # the package writes into the annotations, needs an area, and takes the id 0 for none and an id twice for one box
    annotations = [
        {"iscrowd": 0, "area": annotation["bbox"][2] * annotation["bbox"][3], **annotation, "id": number}
        for number, annotation in enumerate(ground_truth["annotations"], start=1)
    ]
    truth = COCO({"info": {}, **ground_truth, "annotations": annotations})
    predictions = truth.loadRes([dict(result) for result in results])
    evaluation = COCOeval_faster(truth, predictions, "bbox", print_function=lambda *_: None)
    evaluation.params.catIds = list(categories)
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation.eval["precision"]


def score_detections(
    ground_truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    threshold: float | None = None,
    thresholds: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Every detection metric of one data set.

    Precision, recall and F1 are taken at a threshold of confidence for each class, which belongs to a *validation* set.
    Where none is given it is the one that maximises F1 here, as the report did on its test set: optimistic there, right
    on validation. ``best_f1`` is always that maximum. Of several classes, all are the means over those that have a box.

    Args:
        ground_truth: a COCO detection file's content.
        results: a COCO results list.
        threshold: the confidence that a prediction needs, of every class that ``thresholds`` does not name.
        thresholds: the confidence by class.

    Returns:
        ``mAP_50, mAP, f1, precision, recall, threshold, best_f1, best_f1_threshold, images, boxes``. Of several
        classes, ``threshold`` and ``best_f1_threshold`` are those which maximise the mean F1 where all classes share
        one, and ``per_class`` has by name each class's own of all but ``images``; one without a true box has its
        ``boxes`` alone.

    Raises:
        DataError: no ground-truth box; a result or annotation for an image or a category that the ground
            truth lacks; a result with a box or score that is not finite.
    """
    images = sorted(image["id"] for image in ground_truth["images"])
    names = {category["id"]: category["name"] for category in ground_truth["categories"]}
    truths = truths_by_image(ground_truth["annotations"], images, list(names))
    found = found_by_image(results, images, list(names))
    require_finite(results)
    if not any(map(len, truths)):
        raise DataError("recall is undefined: none of the evaluated images has a ground-truth box")
    rankings = dict(zip(names, rank_each(found, truths, len(names)), strict=True))
    curves = {number: rankings[number].operating_curve() for number in sorted(names) if rankings[number].truths.any()}
    areas = average_precision(ground_truth, results)
    given = {category: (thresholds or {}).get(names[category], threshold) for category in curves}
    per_class = {
        category: {**areas[category], **_operating(curve, given[category]), "boxes": curve.truths}
        for category, curve in curves.items()
    }
    common = _operating(mean_curve(list(curves.values())), threshold)
    means = ("mAP_50", "mAP", "f1", "precision", "recall", "best_f1")
    metrics: dict[str, Any] = {
        **{name: float(np.mean([own[name] for own in per_class.values()])) for name in means},
        "threshold": common["threshold"],
        "best_f1_threshold": common["best_f1_threshold"],
        "images": len(images),
        "boxes": sum(curve.truths for curve in curves.values()),
    }
    if len(names) > 1:
        metrics["per_class"] = {name: per_class.get(category, {"boxes": 0}) for category, name in names.items()}
    return metrics


def _operating(curve: OperatingCurve, threshold: float | None) -> dict[str, float]:
    """The point at a threshold, or at the best one, and the best F1."""
    best = curve.best_f1()
    point = best if threshold is None else curve.at(threshold)
    return {
        "f1": point.f1,
        "precision": point.precision,
        "recall": point.recall,
        "threshold": point.threshold,
        "best_f1": best.f1,
        "best_f1_threshold": best.threshold,
    }
