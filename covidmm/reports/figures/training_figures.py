"""Figures of a training: learning rate, losses and validation metrics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from covidmm.reports.figures.style import BLUE, DASHES, PALETTE, VERMILLION, Drawn, draw
from covidmm.reports.runs import Run

_DOTS = 400
#: Shown in this order; other values of a validation are in the CSV.
_METRICS = ("mAP_50", "mAP", "f1", "precision", "recall", "auroc", "accuracy")
_ROW = 1.65


def training_figures(run: Run) -> list[Drawn]:
    """Every figure that the log of a training has something for."""
    figures = []
    if any(_finite(one["lr"]) for one in run.train):
        figures.append(rate_figure(run))
    if any("loss" in key and _finite(value) for one in (*run.train, *run.val) for key, value in one.items()):
        figures.append(loss_figure(run))
    if any(_metric(key) and _finite(value) for one in run.val for key, value in one.items()):
        figures.append(metric_figure(run))
    return figures


def rate_figure(run: Run) -> Drawn:
    """The learning rate at the logged steps."""
    points = [(one.get("step", 0), one["lr"]) for one in run.train if _finite(one["lr"])]

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        steps, rates = np.array(points[:: max(1, len(points) // _DOTS)]).reshape(-1, 2).T
        axes.plot(steps, rates, ".", markersize=4)
        axes.set(xlabel="step", ylabel="learning rate")
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))

    caption = "Of the first group of parameters; a dot per logged step."
    return draw(f"lr_{run.name}", "Learning rate", caption, paint, ("step", "lr"), points)


def loss_figure(run: Run) -> Drawn:
    """Training and validation loss, the sum and each component, by epoch."""
    train = _by_epoch(run.train, "epoch", lambda key: "loss" in key)
    val = _by_epoch(run.val, "step", lambda key: key.startswith("val_") and "loss" in key)
    val = {epoch: {key.removeprefix("val_"): value for key, value in own.items()} for epoch, own in val.items()}
    names = list(dict.fromkeys(key for own in (*train.values(), *val.values()) for key in own))
    names.sort(key=lambda name: name != "loss")

    def paint(figure: Figure) -> None:
        panels = figure.subplots(-(-len(names) // 2), 2 if len(names) > 1 else 1, squeeze=False, sharex=True).ravel()
        for axes, name in zip(panels, names, strict=False):
            for own, colour, dash, label in (
                (train, BLUE, "-", "training"),
                (val, VERMILLION, DASHES[1], "validation"),
            ):
                line = [(epoch, values[name]) for epoch, values in own.items() if name in values]
                if line:
                    mark = "." if len(line) < 4 else None
                    axes.plot(*zip(*line, strict=True), color=colour, linestyle=dash, label=label, marker=mark)
            axes.set_title("all together" if name == "loss" else name.removeprefix("loss_"), fontsize=9)
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            axes.set_ylim(0)
        for axes in panels[len(names) :]:
            axes.set_visible(False)
        for axes in panels[: len(names)][-2:]:
            axes.tick_params(labelbottom=True)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=2)
        figure.supxlabel("epoch", fontsize=10)

    columns = ("epoch", *(f"{kind}_{name}" for kind in ("train", "val") for name in names))
    rows = [
        (epoch, *(own.get(epoch, {}).get(name, "") for own in (train, val) for name in names))
        for epoch in sorted({*train, *val})
    ]
    caption = "" if val else "There is no validation loss yet."
    height = 0.8 + _ROW * max(1, -(-len(names) // 2))
    return draw(f"losses_{run.name}", "Losses", caption, paint, columns, rows, max(2.6, height))


def metric_figure(run: Run) -> Drawn:
    """Validation metrics by epoch."""
    values = _by_epoch(run.val, "step", _metric)
    names = [name for name in _METRICS if any(key.endswith(f"/{name}") for own in values.values() for key in own)]
    lines = {
        name: [
            (epoch, value) for epoch, own in values.items() for key, value in own.items() if key.endswith(f"/{name}")
        ]
        for name in names
    }

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        looks = zip(PALETTE * 2, DASHES * 2, strict=True)
        for (name, line), (colour, dash) in zip(lines.items(), looks, strict=False):
            label = {"mAP_50": "mAP@.50", "f1": "F1", "auroc": "AUROC"}.get(name, name)
            axes.plot(*zip(*line, strict=True), color=colour, linestyle=dash, label=label, marker=".", markersize=4)
        axes.set(xlabel="epoch", ylim=(0, 1.02))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.legend(loc="outside lower center", ncols=3)

    keys = list(dict.fromkeys(key for own in values.values() for key in own))
    rows = [(epoch, *(own.get(key, "") for key in keys)) for epoch, own in values.items()]
    title = "Validation metrics"
    caption = "Precision, recall and F1 of a detector are at the confidence of the best F1 of that epoch."
    detector = any(key.startswith("detection/") for key in keys)
    return draw(f"metrics_{run.name}", title, caption if detector else "", paint, ("epoch", *keys), rows, height=3.5)


def _by_epoch(lines: Sequence[Mapping[str, Any]], key: str, wanted: Any) -> dict[int, dict[str, float]]:
    """Epoch -> mean of every wanted, finite value in it."""
    values: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        for name, value in line.items():
            if wanted(name) and _finite(value):
                values[int(line.get(key, line.get("step", 0)))][name].append(float(value))
    return {epoch: {name: float(np.mean(own)) for name, own in values[epoch].items()} for epoch in sorted(values)}


def _metric(key: str) -> bool:
    return "/" in key


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and bool(np.isfinite(value))
