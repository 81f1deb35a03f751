"""Figures that tools write as PNG: confusion matrix, reliability, losses of several runs, the sweep of an ensemble."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from covidmm.reports import NOTICE
from covidmm.reports.figures.style import BLUE, DASHES, PALETTE, VERMILLION
from covidmm.utils.fileio import write_bytes

#: Rows of a confusion matrix up to which every cell has its numbers in the letters of the axes.
_FEW = 6
_TITLES = {"iou_thr": "IoU threshold", "skip_box_thr": "skip threshold", "weights": "weights"}


def draw_confusion(out: Path, classes: list[str], confusion: Mapping[str, list]) -> None:
    """Write the confusion matrix as PNG."""
    figure = Figure(figsize=(6, 5.4), layout="constrained")
    paint_confusion(figure, classes, confusion)
    figure.axes[0].set_title("Confusion matrix")
    _save(figure, out, NOTICE)


def draw_reliability(out: Path, calibration: Mapping[str, Any]) -> None:
    """Write the reliability diagram as PNG."""
    figure = Figure(figsize=(5, 6), layout="constrained")
    paint_reliability(figure, calibration)
    figure.axes[0].set_title(f"Reliability, expected calibration error {calibration['ece']:.3f}", pad=12)
    _save(figure, out, NOTICE)


def draw_losses(out: Path, losses: Mapping[str, Sequence[tuple[int, float]]]) -> None:
    """Write the validation losses of several runs by epoch, a line each, as PNG."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    # a colour stands for up to as many runs as there are dashes
    looks = [(colour, dash) for dash in DASHES for colour in PALETTE]
    for number, (name, points) in enumerate(losses.items()):
        colour, dash = looks[number % len(looks)]
        epochs, values = zip(*points, strict=True) if points else ((), ())
        axes.plot(epochs, values, color=colour, linestyle=dash, marker=".", label=name)
    axes.set(xlabel="epoch", ylabel="validation loss")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    _save(figure, out, NOTICE)


def paint_confusion(
    figure: Figure, classes: Sequence[str], confusion: Mapping[str, list], predicted: Sequence[str] | None = None
) -> None:
    """Counts, coloured by the share of their row, a dash where it is empty.

    Args:
        figure: an empty one.
        classes: of the rows.
        confusion: ``counts``, and ``shares`` of each row, None for one that is not shown.
        predicted: of the columns, where they are called otherwise.
    """
    axes = figure.add_subplot()
    many = len(classes) > _FEW
    # a class without a case has no shares: its row stays without colour
    image = axes.imshow(np.array(confusion["shares"], np.float64), vmin=0, vmax=1, cmap="Blues")
    for row, (counts, shares) in enumerate(zip(confusion["counts"], confusion["shares"], strict=True)):
        for column, (count, share) in enumerate(zip(counts, shares, strict=True)):
            colour = "white" if share is not None and share > 0.5 else "black"
            text = "-" if share is None else "" if many and not count else f"{count}\n{share:.0%}"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=7.5 if many else None)
    slanted = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if many else {"rotation": 30}
    axes.set_xticks(range(len(classes)), predicted or classes, **slanted)
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="predicted", ylabel="true")
    axes.grid(visible=False)
    figure.colorbar(image, label="share of the true class", shrink=0.82)


def paint_reliability(
    figure: Figure, calibration: Mapping[str, Any], right: str = "accuracy", unit: str = "cases"
) -> None:
    """Accuracy against confidence, a point per bin, and below it how many cases each bin holds.

    Args:
        figure: an empty one.
        calibration: of :func:`covidmm.evaluation.classification.reliability`.
        right: what the share that is right is called.
        unit: what is counted.
    """
    above, below = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    paint_bins(above, calibration["bins"])
    above.set(ylabel=right)
    figure.legend(loc="outside upper center", ncols=2, fontsize=8, frameon=False)  # over no point
    confidence, count = ([row[name] for row in calibration["bins"]] for name in ("confidence", "count"))
    bars = below.bar(confidence, count, width=0.04, color=BLUE)
    below.bar_label(bars, fontsize=8)
    below.set(xlabel="confidence", ylabel=unit)
    below.margins(y=0.25)


def paint_bins(axes: Axes, bins: Sequence[Mapping[str, Any]]) -> None:
    """Confidence and accuracy of bins, and how far they are apart."""
    confidence, accuracy = ([row[name] for row in bins] for name in ("confidence", "accuracy"))
    axes.plot([0, 1], [0, 1], color="grey", linestyle="--", label="perfectly calibrated")
    # stems to the diagonal: what is missing, or too much; a line from bin to bin would mean nothing
    axes.vlines(confidence, confidence, accuracy, color=BLUE, alpha=0.4)
    axes.scatter(confidence, accuracy, color=BLUE, label="model, per bin", clip_on=False, zorder=3)
    axes.set(xlim=(0, 1), ylim=(0, 1))


def draw_sweep(rows: Sequence[Mapping[str, Any]], out: str | Path) -> None:
    """One panel per number that was searched: the best mAP@.50 at each of its values, the others free.

    Args:
        rows: as :func:`covidmm.ensembles.sweep.sweep` gives them.
        out: the PNG to write.
    """
    searched = {key: title for key, title in _TITLES.items() if len({_label(row[key]) for row in rows}) > 1}
    figure = Figure(figsize=(4.2 * max(1, len(searched)), 3.8), layout="constrained")
    # one scale, so that the panels can be compared
    panels = figure.subplots(1, max(1, len(searched)), squeeze=False, sharex=True)[0]
    for axes, (key, title) in zip(panels, searched.items(), strict=False):
        best: dict[str, float] = {}
        for row in sorted(rows, key=lambda row: _order(row[key])):
            label = _label(row[key])
            best[label] = max(best.get(label, 0.0), row["mAP_50"])
        top = max(best.values())
        colours = [VERMILLION if value == top else BLUE for value in best.values()]
        axes.scatter(list(best.values()), range(len(best)), c=colours, s=46, zorder=3)
        axes.set_yticks(range(len(best)), list(best))
        axes.set_xlabel("mAP@.50")
        axes.set_title(title, loc="left", fontweight="bold")
        axes.grid(axis="x", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylim(-0.6, len(best) - 0.4)
    _save(figure, Path(out), f"On the validation split. {NOTICE}")


def _save(figure: Figure, out: Path, note: str) -> None:
    figure.supxlabel(note, x=0.01, ha="left", fontsize=7, color="#666666")
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=130)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(out, data.getvalue())


def _order(value: Any) -> tuple[float, ...]:
    """Numbers by size; weights by the first one's share."""
    return (value[0] / sum(value), *value) if isinstance(value, Sequence) else (value,)


def _label(value: Any) -> str:
    return " : ".join(f"{one:g}" for one in value) if isinstance(value, Sequence) else f"{value:g}"
