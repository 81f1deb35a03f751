"""The report's comparison as a table for people: detectors and their ensemble side by side, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_ROWS = {"mAP@.50": "mAP_50", "F1": "f1", "mean recall": "recall", "mean precision": "precision"}
_STUDY = {"accuracy": "accuracy", "macro F1": "f1", "recall": "recall", "precision": "precision", "mAP": "mAP"}


def format_comparison(found: Mapping[str, Mapping[str, Any]], studies: int) -> str:
    """Detectors, studies and the competition's score.

    Args:
        found: the sections ``detectors``, and where they were scored ``study`` and ``competition``, of
            ``metrics.json``.
        studies: how many were drawn from for the intervals.
    """
    detectors = found["detectors"]
    width = 21
    lines = ["".join([" " * 16, *(name.rjust(width) for name in detectors)])]
    for title, key in _ROWS.items():
        cells = [_with_interval(metrics, key).rjust(width) for metrics in detectors.values()]
        lines.append("".join([title.ljust(16), *cells]))
    cells = [f"{metrics['threshold']:.3f}".rjust(width) for metrics in detectors.values()]
    lines.append("".join(["threshold".ljust(16), *cells]))
    unreadable = max(metrics.get("unreadable", 0) for metrics in detectors.values())
    if unreadable:
        lines.append(f"{unreadable} images that cannot be read count as without a box found")
    if "study" in found:
        cells = [
            f"{title} {_with_interval(found['study'], key)}" for title, key in _STUDY.items() if key in found["study"]
        ]
        lines.append(f"studies: {', '.join(cells)}{_left_out(found['study'])}")
    if "competition" in found:
        lines.append(_competition(found["competition"]))
    lines.append(f"in brackets: 95 % bootstrap intervals over {studies} studies; thresholds were chosen on validation")
    return "\n".join(lines)


def _left_out(study: Mapping[str, Any]) -> str:
    """What the study metrics count by convention, and what they do not count."""
    notes = []
    if absent := study.get("absent"):
        notes.append(f"means without {', '.join(absent)}, which no label has")
    if unclassified := study.get("unclassified"):
        notes.append(f"{unclassified} studies that nobody could classify count as negative")
    return f" ({'; '.join(notes)})" if notes else ""


def _competition(found: Mapping[str, Any]) -> str:
    per_class = found["per_class"]
    cells = [f"{name} {'-' if value is None else f'{value:.3f}'}" for name, value in per_class.items()]
    missing = [name for name, value in per_class.items() if value is None]
    text = f"competition score {_with_interval(found, 'score')}: {', '.join(cells)}"
    if missing:
        text += f" (without {', '.join(missing)}, which no label has)"
    return text


def _with_interval(metrics: Mapping[str, Any], key: str) -> str:
    ends = metrics.get(f"{key}_interval")
    return f"{metrics[key]:.3f}" + (f" [{ends[0]:.3f} {ends[1]:.3f}]" if ends else "")
