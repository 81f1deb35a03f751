"""What ``metrics.json`` has of detections beyond the flat numbers of MMEngine's metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covidmm.datasets.annotated_image import TrueBoxes
from covidmm.evaluation.bootstrap import intervals, study_numbers
from covidmm.evaluation.box_calibration import BoxCalibration
from covidmm.evaluation.coco_dicts import Labelled, found_by_image, truths_by_image
from covidmm.evaluation.detection import PER_CLASS, rank_each
from covidmm.evaluation.detection_errors import KINDS, confusion_counts, error_counts
from covidmm.evaluation.ranking import FALSE_POSITIVES, Ranking, Weights

#: What is resampled, of each class and of their means.
RESAMPLED = ("mAP_50", "f1", "recall", "precision", "froc", "ece")


@dataclass(frozen=True)
class _ClassScores:
    """One class that has a true box: its predictions by COCOeval's matching and by the challenge's."""

    coco: Ranking
    ranking: Ranking
    calibration: BoxCalibration
    threshold: float

    def values(self, weights: Weights | None = None) -> tuple[float, ...]:
        """Those of :data:`RESAMPLED`, each study counted by its weight; nan where undefined."""
        precision, recall, f1 = self.ranking.at(self.threshold, weights)
        froc = float(self.ranking.sensitivities(weights).mean())
        return self.coco.coco_ap(weights), f1, recall, precision, froc, self.calibration.ece(weights)

    def summary(self) -> dict[str, Any]:
        """FROC and calibration."""
        found = self.ranking.sensitivities()
        own: dict[str, Any] = {"froc": float(found.mean()), "sensitivities": _by_rate(found), "ece": None}
        if len(self.ranking.scores):
            own["ece"] = self.calibration.ece()
        return own | {"calibration": list(self.calibration.rows)}


def with_details(
    metrics: Mapping[str, Any], ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Metrics with what is nested beside them.

    Args:
        metrics: of :func:`covidmm.evaluation.detection.score_detections`; its thresholds are taken, and for a class
            without one that of all.
        ground_truth: the COCO detection file's content that was scored; images without a ``study_id`` count as a study
            each.
        results: the COCO results list that was scored.

    Returns:
        The metrics and, of all classes and under ``per_class`` of each that has a true box,

        * ``froc``, the mean of ``sensitivities``, which are by false positives per image, see
          :meth:`~covidmm.evaluation.ranking.Ranking.sensitivities`;
        * ``ece``, the error of scores, see :class:`~covidmm.evaluation.box_calibration.BoxCalibration`; None where
          nothing was found; and of each class its bins, ``calibration``;
        * ``..._interval`` of each of :data:`RESAMPLED`, see :mod:`covidmm.evaluation.bootstrap`;
        * ``errors`` of each class by kind, see :func:`~covidmm.evaluation.detection_errors.error_counts`; of several
          classes ``confusion`` with ``classes`` and ``counts``, see
          :func:`~covidmm.evaluation.detection_errors.confusion_counts`.
    """
    images = sorted(ground_truth["images"], key=lambda image: image["id"])
    numbers = [image["id"] for image in images]
    ids = [category["id"] for category in ground_truth["categories"]]
    names = [category["name"] for category in ground_truth["categories"]]
    found = found_by_image(results, numbers, ids)
    truths = truths_by_image(ground_truth["annotations"], numbers, ids)
    studies = study_numbers([str(image.get("study_id") or f"image {image['id']}") for image in images])
    per_class = metrics.get("per_class", {})
    thresholds = [per_class.get(name, {}).get("threshold", metrics["threshold"]) for name in names]
    details = dict(metrics) | _ranked(per_class, found, truths, studies, dict(zip(names, thresholds, strict=True)))
    rows = error_counts(found, truths, thresholds).tolist()
    details["errors"] = {name: dict(zip(KINDS, row, strict=True)) for name, row in zip(names, rows, strict=True)}
    if len(names) > 1:
        counts = confusion_counts(found, truths, thresholds).tolist()
        details["confusion"] = {"classes": names, "counts": counts}
    return details


def by_class(found: dict[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    """What a metric of several classes found, with what is of single ones under ``per_class``.

    Args:
        found: of :class:`~covidmm.evaluation.detection_metric.DetectionMetric`, flat.
        classes: their names.
    """
    if len(classes) < 2:
        return found
    own = {name: {key: f"{key}_{name}" for key in PER_CLASS if f"{key}_{name}" in found} for name in classes}
    per_class = {name: {key: found[full] for key, full in keys.items()} for name, keys in own.items()}
    flat = {full for keys in own.values() for full in keys.values()}
    return {key: value for key, value in found.items() if key not in flat} | {"per_class": per_class}


def _ranked(
    per_class: Mapping[str, Mapping[str, Any]],
    found: Sequence[Labelled],
    truths: Sequence[TrueBoxes],
    studies: Sequence[int],
    thresholds: Mapping[str, float],
) -> dict[str, Any]:
    """FROC, calibration and intervals, of all and, where there are several, added to those ``per_class``."""
    pairs = zip(*(rank_each(found, truths, len(thresholds), studies, coco) for coco in (True, False)), strict=True)
    scores = {
        name: _ClassScores(coco, ranking, BoxCalibration(ranking), threshold)
        for (name, threshold), (coco, ranking) in zip(thresholds.items(), pairs, strict=True)
        if ranking.truths.any()
    }
    ends = _intervals(scores, max(studies) + 1)
    own = {name: one.summary() | ends[name] for name, one in scores.items()}
    if not per_class:
        (only,) = own.values()
        return only
    eces = [one["ece"] for one in own.values() if one["ece"] is not None]
    means = np.mean([list(one["sensitivities"].values()) for one in own.values()], axis=0)
    return {
        "froc": float(np.mean([one["froc"] for one in own.values()])),
        "sensitivities": _by_rate(means),
        "ece": float(np.mean(eces)) if eces else None,
        **ends[None],
        "per_class": {name: {**one, **own.get(name, {})} for name, one in per_class.items()},
    }


def _intervals(scores: Mapping[str, _ClassScores], studies: int) -> dict[str | None, dict[str, list[float]]]:
    """By class, and as None of the means of the classes that a draw holds, ``..._interval`` of each metric."""

    def statistic(weights: NDArray[np.float64]) -> dict[tuple[str | None, str], float]:
        table = np.array([one.values(weights) for one in scores.values()])
        held = ~np.isnan(table[:, :1]) & ~np.isnan(table)
        count = held.sum(0)
        means = np.divide(np.where(held, table, 0).sum(0), count, out=np.full(len(count), np.nan), where=count > 0)
        rows = zip((*scores, None), [*table.tolist(), means.tolist()], strict=True)
        return {(key, name): value for key, row in rows for name, value in zip(RESAMPLED, row, strict=True)}

    ends: dict[str | None, dict[str, list[float]]] = {key: {} for key in (*scores, None)}
    for (key, name), pair in intervals(statistic, studies).items():
        ends[key][f"{name}_interval"] = list(pair)
    return ends


def _by_rate(found: NDArray[np.float64]) -> dict[str, float]:
    return {f"{rate:g}": float(value) for rate, value in zip(FALSE_POSITIVES, found, strict=True)}
