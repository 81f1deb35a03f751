"""Metrics as tables for people: of detectors, of labels, and of detectors beside their ensemble."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from covidmm.findings import STUDY_CLASSES

_COLUMNS = {
    "mAP@.50": "mAP_50",
    "mAP@.50:.95": "mAP",
    "   F1": "f1",
    "Precision": "precision",
    "Recall": "recall",
    "Threshold": "threshold",
}
_ROWS = {"mAP@.50": "mAP_50", "F1": "f1", "mean recall": "recall", "mean precision": "precision"}
_ROWS |= {"FROC": "froc", "score error": "ece"}
_STUDY = {"accuracy": "accuracy", "macro F1": "f1", "recall": "recall", "precision": "precision", "mAP": "mAP"}
#: Where several labels can hold, most studies have few of them: what does not hang on a threshold comes first.
_LABELS = {"macro AUROC": "auroc", "mAP": "mAP", "macro F1": "f1", "recall": "recall", "precision": "precision"}


def format_table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Detection metrics as a table for people; a metric that a row lacks is a dash.

    Args:
        rows: name of a detector to its metrics, as :func:`covidmm.evaluation.detection.score_detections` gives.
    """
    width = max((len(name) for name in rows), default=0)
    lines = ["  ".join([" " * width, *_COLUMNS]), "  ".join("-" * size for size in (width, *map(len, _COLUMNS)))]
    for name, metrics in rows.items():
        cells = [_cell(metrics.get(key), len(title)) for title, key in _COLUMNS.items()]
        lines.append("  ".join([name.ljust(width), *cells]))
    return "\n".join(lines)


def format_labels(details: Mapping[str, Any]) -> str:
    """Classification metrics as tables for people: one line per class, the means, and the confusion matrix.

    Args:
        details: as :class:`covidmm.evaluation.label_metric.LabelMetric` writes them.
    """
    columns = {"count": 5, "precision": 9, "recall": 6, "f1": 5, "auroc": 5, "ap": 5}
    width = max(len(name) for name in (*details["per_class"], "macro mean"))
    lines = ["  ".join([" " * width, *(name.rjust(size) for name, size in columns.items())])]
    for name, one in details["per_class"].items():
        cells = [str(one["count"]).rjust(5), *(_cell(one[key], size) for key, size in list(columns.items())[1:])]
        lines.append("  ".join([name.ljust(width), *cells]))
    means = [details[key] for key in ("precision", "recall", "f1", "auroc", "mAP")]
    cells = [" " * 5, *(_cell(value, size) for value, size in zip(means, list(columns.values())[1:], strict=True))]
    lines.append("  ".join(["macro mean".ljust(width), *cells]))
    if absent := details.get("absent"):
        lines.append(f"the means are over {len(details['per_class']) - len(absent)} classes: no {', no '.join(absent)}")
    lines.append(f"accuracy {details['accuracy']:.3f}")
    if "confusion" in details:
        lines[-1] += f", calibration error {details['ece']:.3f} at temperature {details['temperature']:.2f}"
        lines.append("confusion matrix, rows true:")
        for name, row in zip(details["classes"], details["confusion"]["counts"], strict=True):
            lines.append("  ".join([name.ljust(width), *(str(count).rjust(5) for count in row)]))
    return "\n".join(lines)


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
        if any(key in metrics for metrics in detectors.values()):
            cells = [_with_interval(metrics, key).rjust(width) for metrics in detectors.values()]
            lines.append("".join([title.ljust(16), *cells]))
    cells = [f"{metrics['threshold']:.3f}".rjust(width) for metrics in detectors.values()]
    lines.append("".join(["threshold".ljust(16), *cells]))
    for name in next(iter(detectors.values())).get("per_class", {}):
        lines.append(f"{name}:")
        for title, key in {**_ROWS, "threshold": "threshold"}.items():
            cells = [_with_interval(metrics["per_class"][name], key).rjust(width) for metrics in detectors.values()]
            lines.append("".join([f"  {title}".ljust(16), *cells]))
    unreadable = max(metrics.get("unreadable", 0) for metrics in detectors.values())
    if unreadable:
        lines.append(f"{unreadable} images that cannot be read count as without a box found")
    if "study" in found:
        study = found["study"]
        rows = _LABELS if study.get("multi_label") else _STUDY
        cells = [f"{title} {_with_interval(study, key)}" for title, key in rows.items() if study.get(key) is not None]
        lines.append(f"studies: {', '.join(cells)}{_left_out(study)}")
        if study.get("multi_label"):
            longest = max(map(len, study["per_class"]))
            lines += [
                f"  {name.ljust(longest)}  AUROC {_cell(one['auroc'], 5)}, AP {_cell(one['ap'], 5)}, of {one['count']}"
                for name, one in study["per_class"].items()
            ]
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
        of_siim = tuple(study.get("classes", STUDY_CLASSES)) == STUDY_CLASSES
        how = "count as without a finding" if study.get("multi_label") else "are left out"
        notes.append(f"{unclassified} studies that could not be classified {'count as negative' if of_siim else how}")
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
    if metrics.get(key) is None:
        return "-"
    ends = metrics.get(f"{key}_interval")
    return f"{metrics[key]:.3f}" + (f" [{ends[0]:.3f} {ends[1]:.3f}]" if ends else "")


def _cell(value: float | None, width: int) -> str:
    return "-".rjust(width) if value is None else f"{value:{width}.3f}"
