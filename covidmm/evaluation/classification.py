"""Metrics of labels, of images and of studies: scikit-learn's, by one set of names, and those that it does not have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.metrics import (
    average_precision_score,
    confusion_matrix,
    precision_recall_fscore_support,
    roc_auc_score,
)

from covidmm.evaluation.bootstrap import Statistic, intervals
from covidmm.evaluation.ranking import Ranking
from covidmm.findings import StudyLabels

Array = NDArray[np.floating]
#: Macro means, which need a case of a class.
_MEANS = ("precision", "recall", "f1", "mAP")


def decide(scores: Array, multi_label: bool, threshold: float = 0.5) -> NDArray[np.int64]:
    """(N, C) decisions of 0 and 1: every class above the threshold, or the one of the highest score."""
    if multi_label:
        return (scores >= threshold).astype(np.int64)
    return np.eye(scores.shape[1], dtype=np.int64)[scores.argmax(1)]


def score_labels(targets: Array, scores: Array, classes: Sequence[str], multi_label: bool) -> dict[str, Any]:
    """All metrics of N images or studies.

    Macro means are over classes that occur (a class without a single positive has no recall, AUROC or AP);
    ``accuracy`` is the share whose labels are right as a whole. Multi-label ``mAP`` is the mean of
    scikit-learn's average precision; for single-label tasks it is the mean of the VOC-style AP, the area under
    the precision envelope, by which the competition scores studies.

    Args:
        targets: (N, C) of 0 and 1.
        scores: (N, C) in 0..1.
        classes: names of the C classes.
        multi_label: whether several classes, or none, can be right.

    Returns:
        ``accuracy``; ``precision``, ``recall``, ``f1``, ``mAP`` and ``auroc``, means over the classes that occur;
        ``absent``, the others; and ``per_class`` with ``count``, ``precision``, ``recall``, ``f1``, ``auroc`` and
        ``ap`` of each, None where undefined.

    Raises:
        ValueError: shapes that do not agree, or nothing to score.
    """
    if targets.shape != scores.shape or targets.shape[1:] != (len(classes),) or not len(targets):
        raise ValueError(f"targets {targets.shape} and scores {scores.shape} of {len(classes)} classes")
    targets = targets.astype(np.int64)
    decisions = decide(scores, multi_label)
    precision, recall, f1, counts = precision_recall_fscore_support(
        targets, decisions, labels=range(len(classes)), zero_division=0
    )
    per_class = {}
    for index, name in enumerate(classes):
        truth, score = targets[:, index], scores[:, index]
        occurs = counts[index] > 0
        ap = (average_precision_score if multi_label else voc_average_precision)(truth, score) if occurs else None
        per_class[name] = {
            "count": int(counts[index]),
            "precision": float(precision[index]),
            "recall": float(recall[index]) if occurs else None,
            "f1": float(f1[index]) if occurs else None,
            "auroc": float(roc_auc_score(truth, score)) if 0 < counts[index] < len(truth) else None,
            "ap": float(ap) if occurs else None,
        }
    found = [one for one in per_class.values() if one["count"]]
    return {
        "accuracy": float((targets == decisions).all(1).mean()),
        **{name: _mean(found, name) for name in ("precision", "recall", "f1", "auroc")},
        "mAP": _mean(found, "ap"),
        "absent": [name for name, one in per_class.items() if not one["count"]],
        "per_class": per_class,
    }


def score_studies(
    truth: Mapping[str, Sequence[str]],
    probabilities: Mapping[str, Sequence[float]],
    labels: StudyLabels | None = None,
) -> dict[str, Any]:
    """All study metrics.

    A study that could not be classified counts as negative with SIIM's classes, as in the submission, and as one
    without a finding where several labels can hold; otherwise it is left out.

    Args:
        truth: study id to its classes, one unless several can hold.
        probabilities: study id to the probability of each class.
        labels: what they stand for; SIIM's appearances by default.

    Returns:
        As :func:`score_labels`, with ``classes``, ``cases``, ``unclassified`` (how many could not be classified) and,
        for accuracy, precision, recall, F1 and mAP, ``..._interval``; where one class holds ``confusion``,
        ``calibration`` and ``ece``, where several can ``multi_label``.

    Raises:
        ValueError: no study is left to score.
    """
    labels = labels or StudyLabels()
    names, multi_label = labels.names, labels.multi_label
    unknown = (float(labels.of_siim), *[0.0] * (len(names) - 1))
    scored = [study for study in truth if study in probabilities or labels.of_siim or multi_label]
    targets = np.array([[name in truth[study] for name in names] for study in scored], np.float64)
    scores = np.array([probabilities.get(study, unknown) for study in scored], np.float64)
    found = score_labels(targets, scores, names, multi_label)
    if multi_label:
        found["multi_label"] = True
    else:
        found |= {"confusion": confusion(targets, scores), "calibration": calibration(targets, scores)}
        found["ece"] = found["calibration"]["ece"]
    found |= {"classes": list(names), "cases": len(scored)}
    found["unclassified"] = sum(study not in probabilities for study in truth)
    ends = intervals(_study_statistic(targets, scores, multi_label), len(scored))
    return found | {f"{name}_interval": list(pair) for name, pair in ends.items()}


def voc_average_precision(truth: NDArray, scores: Array) -> float:
    """Area under the precision envelope (PASCAL VOC 2010); 0 without positives."""
    hits = np.asarray(truth, bool)
    if not hits.any():
        return 0.0
    return Ranking.of([scores], [hits], [int(hits.sum())]).voc_ap()


def confusion(targets: Array, scores: Array) -> dict[str, list]:
    """Confusion matrix of a single-label task, rows true: ``counts``, and ``shares`` of each row (None if empty)."""
    counts = confusion_matrix(targets.argmax(1), scores.argmax(1), labels=range(scores.shape[1]))
    shares = [(row / row.sum()).tolist() if row.any() else [None] * len(row) for row in counts]
    return {"counts": counts.tolist(), "shares": shares}


def calibration(targets: Array, scores: Array, bins: int = 15) -> dict[str, Any]:
    """Expected calibration error of the highest score (Guo et al., 2017), and its bins; see :func:`reliability`."""
    return reliability(scores.max(1), targets.argmax(1) == scores.argmax(1), bins)


def reliability(confidence: Array, right: NDArray[np.bool_], bins: int = 15) -> dict[str, Any]:
    """How far confidence (N,) in 0..1 is from the share of decisions (N,) that are right, bin by bin.

    Returns:
        ``ece``, and per bin that holds anything ``count``, mean ``confidence`` and ``accuracy``.
    """
    which = confidence_bins(confidence, bins)
    filled = [which == index for index in range(bins) if (which == index).any()]
    rows = [
        {"count": int(mask.sum()), "confidence": float(confidence[mask].mean()), "accuracy": float(right[mask].mean())}
        for mask in filled
    ]
    ece = sum(row["count"] * abs(row["confidence"] - row["accuracy"]) for row in rows) / len(confidence)
    return {"ece": float(ece), "bins": rows}


def confidence_bins(confidence: Array, bins: int) -> NDArray[np.int64]:
    """(N,) the bin of each confidence in 0..1, open below and closed above; 0 lies in the first."""
    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)


def fit_temperature(logits: Array, targets: Array) -> float:
    """The temperature that minimises the cross entropy of ``softmax(logits / T)`` (Guo et al., 2017), 0.05..20."""

    def loss(log_temperature: float) -> float:
        return float(-(log_softmax(logits / np.exp(log_temperature), axis=1) * targets).sum())

    found = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded")
    return float(np.exp(found.x))


def _study_statistic(targets: Array, scores: Array, multi_label: bool) -> Statistic[str]:
    """Accuracy, macro precision, recall and F1, and mAP of the studies, each counted by its weight."""
    decided = decide(scores, multi_label).astype(np.float64)
    right = (targets == decided).all(1)
    rankings = [
        Ranking.of(list(scores[:, [c]]), list(targets[:, [c]] > 0), targets[:, c].tolist())
        for c in range(scores.shape[1])
    ]

    def statistic(weights: NDArray[np.float64]) -> dict[str, float]:
        hits, guessed, real = weights @ (targets * decided), weights @ decided, weights @ targets
        there = real > 0
        if not there.any():
            return {"accuracy": float(weights @ right / weights.sum()), **dict.fromkeys(_MEANS, float("nan"))}
        areas = [ranking.step_ap(weights) if multi_label else ranking.voc_ap(weights) for ranking in rankings]
        return {
            "accuracy": float(weights @ right / weights.sum()),
            "precision": float((hits / np.maximum(guessed, 1))[there].mean()),
            "recall": float((hits / np.maximum(real, 1))[there].mean()),
            "f1": float((2 * hits / np.maximum(guessed + real, 1))[there].mean()),
            "mAP": float(np.nanmean(areas)),
        }

    return statistic


def _mean(rows: list[dict[str, Any]], name: str) -> float | None:
    values = [row[name] for row in rows if row[name] is not None]
    return float(np.mean(values)) if values else None
