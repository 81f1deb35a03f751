"""What ``metrics.json`` has of detections beyond the flat numbers of MMEngine's metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from covidmm.evaluation.coco_dicts import found_by_image, truths_by_image
from covidmm.evaluation.detection_errors import KINDS, confusion_counts, error_counts


def with_details(
    metrics: Mapping[str, Any], ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Metrics with what is nested beside them.

    Args:
        metrics: of :func:`covidmm.evaluation.detection.score_detections`; its thresholds are taken, and for a class
            without one that of all.
        ground_truth: the COCO detection file's content that was scored.
        results: the COCO results list that was scored.

    Returns:
        The metrics and, of several classes, ``confusion`` with ``classes`` and ``counts``, see
        :func:`~covidmm.evaluation.detection_errors.confusion_counts`, and ``errors`` with those of each class by kind,
        see :func:`~covidmm.evaluation.detection_errors.error_counts`.
    """
    images = sorted(image["id"] for image in ground_truth["images"])
    ids = [category["id"] for category in ground_truth["categories"]]
    names = [category["name"] for category in ground_truth["categories"]]
    found = found_by_image(results, images, ids)
    truths = truths_by_image(ground_truth["annotations"], images, ids)
    per_class = metrics.get("per_class", {})
    thresholds = [per_class.get(name, {}).get("threshold", metrics["threshold"]) for name in names]
    details = dict(metrics)
    if len(names) > 1:
        counts = confusion_counts(found, truths, thresholds).tolist()
        details["confusion"] = {"classes": names, "counts": counts}
        rows = error_counts(found, truths, thresholds).tolist()
        details["errors"] = {name: dict(zip(KINDS, row, strict=True)) for name, row in zip(names, rows, strict=True)}
    return details
