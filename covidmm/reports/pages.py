"""What report and model card share: templates, and tables of metrics for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader

import covidmm
from covidmm.reports import NOTICE

_DETECTION = {
    "mAP_50": "mAP@.50",
    "f1": "F1",
    "precision": "precision",
    "recall": "recall",
    "froc": "FROC",
    "ece": "ECE",
}
#: Of a class of several; its AP is called so, mAP is their mean.
_FINDING = {"mAP": "AP@.50:.95", **_DETECTION, "mAP_50": "AP@.50", "threshold": "threshold"}
_WITH_INTERVAL = ("mAP_50", "froc")
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
class Table:
    """A table of numbers for people."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""


def detector_table(detectors: Mapping[str, Mapping[str, Any]]) -> Table:
    """A row per detector with the metrics of ``metrics.json`` and their intervals."""
    known = {key for metrics in detectors.values() for key in metrics}
    columns = {key: title for key, title in _DETECTION.items() if key in known or key not in ("froc", "ece")}
    rows = []
    for name, metrics in detectors.items():
        own = any("threshold" in one for one in metrics.get("per_class", {}).values())
        threshold = "one per class" if own else with_interval(metrics, "threshold")
        rows.append([name, *(with_interval(metrics, key) for key in columns), threshold])
    return Table(("detector", *columns.values(), "threshold"), rows)


def finding_tables(
    detectors: Mapping[str, Mapping[str, Any]], final: str, images: Mapping[str, int] | None = None
) -> list[Table]:
    """Of several classes a row each: all metrics of one detector, and AP@.50 of every detector; none of one class.

    Args:
        detectors: as ``metrics.json`` has them.
        final: the one that has all its metrics shown.
        images: how many images have a box of each class, where that is known.
    """
    per_class = detectors[final].get("per_class", {})
    if not per_class:
        return []
    rows = []
    for name, own in per_class.items():
        numbers = [with_interval(own if key in _WITH_INTERVAL else {key: own.get(key)}, key) for key in _FINDING]
        counted = [] if images is None else [str(images[name])]
        rows.append((name, *counted, str(own.get("boxes", "-")), *numbers))
    columns = ("class", *(() if images is None else ("images",)), "boxes", *_FINDING.values())
    tables = [Table(columns, rows, f"{final}, class by class")]
    if len(detectors) > 1:
        areas = [
            (name, *(with_interval(one.get("per_class", {}).get(name, {}), "mAP_50") for one in detectors.values()))
            for name in per_class
        ]
        tables.append(Table(("class", *detectors), areas, "AP@.50 of every detector, class by class"))
    return tables


def label_table(details: Mapping[str, Any]) -> Table:
    """One row with the metrics of a classifier and, where they were computed, their intervals."""
    known = {label: with_interval(details, key) for key, label in _STUDY.items() if details.get(key) is not None}
    return Table(("cases", *known), [(str(details.get("cases", "-")), *known.values())])


def class_table(per_class: Mapping[str, Mapping[str, Any]]) -> Table:
    """A row per class of a classifier; a dash where a metric is undefined."""
    columns = {"auroc": "AUROC", "ap": "AP", "f1": "F1", "precision": "precision", "recall": "recall"}
    rows = [(name, str(one["count"]), *(with_interval(one, key) for key in columns)) for name, one in per_class.items()]
    return Table(("class", "cases", *columns.values()), rows)


def with_interval(metrics: Mapping[str, Any], key: str) -> str:
    """A metric and, in brackets, its interval; a dash where there is none."""
    if metrics.get(key) is None:
        return "-"
    ends = metrics.get(f"{key}_interval")
    return f"{metrics[key]:.3f}" + (f" [{ends[0]:.3f}, {ends[1]:.3f}]" if ends else "")


def render(template: str, **values: Any) -> bytes:
    """A template of this package with its values, the notice, covidmm's version and the time."""
    folder = files("covidmm.reports").joinpath("templates")
    environment = Environment(
        autoescape="html" in template,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        loader=FunctionLoader(lambda name: folder.joinpath(name).read_text()),
    )
    made = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    page = environment.get_template(template).render(notice=NOTICE, version=covidmm.__version__, made=made, **values)
    return page.encode(errors="replace")


def slug(name: str) -> str:
    """A name as a part of a file name or an id."""
    return "".join(letter if letter.isalnum() or letter in "_-." else "_" for letter in name)
