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
class Table:
    """A table of numbers for people."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def detector_table(detectors: Mapping[str, Mapping[str, Any]]) -> Table:
    """A row per detector with the metrics of ``metrics.json`` and their intervals."""
    rows = [
        [name, *(with_interval(metrics, key) for key in _DETECTION), with_interval(metrics, "threshold")]
        for name, metrics in detectors.items()
    ]
    return Table(("detector", *_DETECTION.values(), "threshold"), rows)


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
