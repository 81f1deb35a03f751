"""The picture of a sweep: how the choice of each number changes the ensemble on validation."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from covidmm.reports.figures.style import BLUE, VERMILLION
from covidmm.utils.fileio import write_bytes

NOTE = "On the validation split. Research software, not a medical device."
_TITLES = {"iou_thr": "IoU threshold", "skip_box_thr": "skip threshold", "weights": "weights"}


def draw_sweep(rows: Sequence[Mapping[str, Any]], out: str | Path) -> None:
    """One panel per number that was searched: the best mAP@.50 at each of its values, the others free.

    Args:
        rows: as :func:`covidmm.ensembles.sweep.sweep` gives them.
        out: the PNG to write.
    """
    searched = {key: title for key, title in _TITLES.items() if len({_label(row[key]) for row in rows}) > 1}
    figure = Figure(figsize=(4.2 * max(1, len(searched)), 3.8), layout="constrained")
    # one scale, so that the panels tell which number matters
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
    figure.supxlabel(NOTE, fontsize=8, color="#666666")
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=130)
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    write_bytes(Path(out), data.getvalue())


def _order(value: Any) -> tuple[float, ...]:
    """Numbers by size; weights by the first one's share."""
    return (value[0] / sum(value), *value) if isinstance(value, Sequence) else (value,)


def _label(value: Any) -> str:
    return " : ".join(f"{one:g}" for one in value) if isinstance(value, Sequence) else f"{value:g}"
