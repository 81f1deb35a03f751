"""Study-level probabilities against the classes of the studies, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covidmm.evaluation.bootstrap import intervals
from covidmm.evaluation.classification import calibration, confusion, score_labels
from covidmm.evaluation.ranking import Ranking
from covidmm.findings import STUDY_CLASSES


def score_studies(truth: Mapping[str, str], probabilities: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """All study metrics.

    Args:
        truth: study id to its class.
        probabilities: study id to four probabilities; a study that nobody could classify counts as negative, as in
            the submission.

    Returns:
        As :func:`covidmm.evaluation.classification.score_labels`, with ``confusion``, ``calibration``, ``ece``,
        ``classes``, ``cases``, ``unclassified``, how many nobody could classify, and, for accuracy, precision, recall,
        F1 and mAP, ``..._interval``.
    """
    targets = np.eye(len(STUDY_CLASSES))[[STUDY_CLASSES.index(name) for name in truth.values()]]
    scores = np.array([probabilities.get(study, (1.0, 0.0, 0.0, 0.0)) for study in truth], np.float64)
    found = score_labels(targets, scores, STUDY_CLASSES, multi_label=False)
    found |= {"confusion": confusion(targets, scores), "calibration": calibration(targets, scores)}
    found |= {"ece": found["calibration"]["ece"], "classes": list(STUDY_CLASSES), "cases": len(truth)}
    found["unclassified"] = sum(study not in probabilities for study in truth)
    ends = intervals(_statistic(targets, scores), len(truth))
    return found | {f"{name}_interval": list(pair) for name, pair in ends.items()}


def _statistic(targets: NDArray[np.float64], scores: NDArray[np.float64]) -> Any:
    """Accuracy, macro precision, recall and F1, and mAP of the studies, each counted by its weight."""
    decided = np.eye(scores.shape[1])[scores.argmax(1)]
    clusters = np.arange(len(targets))
    rankings = [
        Ranking.of(list(scores[:, [c]]), list(targets[:, [c]] > 0), targets[:, c].tolist(), clusters, len(targets))
        for c in range(scores.shape[1])
    ]

    def statistic(weights: NDArray[np.float64]) -> dict[str, float]:
        hits, guessed, real = weights @ (targets * decided), weights @ decided, weights @ targets
        there = real > 0
        areas = [ranking.voc_ap(weights) for ranking in rankings]
        return {
            "accuracy": float(hits.sum() / weights.sum()),
            "precision": float((hits / np.maximum(guessed, 1))[there].mean()),
            "recall": float((hits / np.maximum(real, 1))[there].mean()),
            "f1": float((2 * hits / np.maximum(guessed + real, 1))[there].mean()),
            "mAP": float(np.nanmean(areas)),
        }

    return statistic
