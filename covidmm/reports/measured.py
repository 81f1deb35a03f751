"""Metrics of ``metrics.json`` as small tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_DETECTION = {"mAP_50": "mAP@.50", "f1": "F1", "precision": "precision", "recall": "recall"}
_STUDY = {
    "accuracy": "accuracy",
    "f1": "macro F1",
    "precision": "precision",
    "recall": "recall",
    "mAP": "mAP",
    "auroc": "AUROC",
    "ece": "ece",
}


@dataclass(frozen=True)
class Measured:
    """A table of numbers for people."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def measured_boxes(detectors: Mapping[str, Mapping[str, Any]]) -> Measured:
    """A row per detector with the metrics of ``metrics.json`` and their intervals."""
    rows = [
        [name, *(with_interval(metrics, key) for key in _DETECTION), with_interval(metrics, "threshold")]
        for name, metrics in detectors.items()
    ]
    return Measured(("detector", *_DETECTION.values(), "threshold"), rows)


def measured_labels(details: Mapping[str, Any]) -> Measured:
    """One row with the metrics of a classifier and, where they were computed, their intervals."""
    told = {label: with_interval(details, key) for key, label in _STUDY.items() if details.get(key) is not None}
    return Measured(("cases", *told), [(str(details.get("cases", "-")), *told.values())])


def with_interval(metrics: Mapping[str, Any], key: str) -> str:
    """A metric and, in brackets, its interval; a dash where there is none."""
    if metrics.get(key) is None:
        return "-"
    ends = metrics.get(f"{key}_interval")
    return f"{metrics[key]:.3f}" + (f" [{ends[0]:.3f}, {ends[1]:.3f}]" if ends else "")
