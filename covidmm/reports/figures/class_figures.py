"""Figures of detectors class by class: curves, confusion, kinds of errors, calibration."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from covidmm.evaluation.detection import IOU_THRESHOLD
from covidmm.evaluation.detection_errors import BACKGROUND_IOU, KINDS
from covidmm.evaluation.ranking import FALSE_POSITIVES
from covidmm.reports.detections import Comparison
from covidmm.reports.figures.png_figures import paint_bins, paint_confusion, paint_reliability
from covidmm.reports.figures.result_figures import comparison_figures, curve_of, operating_point
from covidmm.reports.figures.style import DASHES, PALETTE, Drawn, draw

#: Points of a curve of a small panel, and the most panels of a figure.
_POINTS, _PANELS = 120, 20
_ACROSS, _HIGH = 4, 1.75
#: False alarms of one class of many are fewer than LUNA16's least number.
_LEAST_FALSE = 1 / 64
_HATCHES = ("", "///", "xx", "..", "\\\\\\", "--")
_BINS = ("count", "confidence", "accuracy")


def detector_figures(found: Comparison) -> list[Drawn]:
    """Curves of every detector; confusion, errors and calibration of the final one."""
    if len(found.classes) == 1:
        return [*comparison_figures(found), *_calibration_of_one(found), error_figure(found)]
    return [*curve_figures(found), confusion_figure(found), error_figure(found), calibration_figure(found)]


def curve_figures(found: Comparison) -> list[Drawn]:
    """Precision-recall and FROC, a panel for each class."""
    rows, panels = [], {}
    for label, name in enumerate(found.classes):
        panels[name] = {
            detector: (
                curve_of(own[label], len(found.images), _POINTS),
                operating_point(own[label], float(found.thresholds(detector)[label]), len(found.images)),
            )
            for detector, own in found.rankings.items()
            if own[label].truths.any()
        }
        for detector, (curve, _) in panels[name].items():
            rows += [(name, detector, *(f"{value:.6g}" for value in point)) for point in curve.T.tolist()]
    columns = ("class", "detector", "score", "precision", "recall", "false_positives_per_image")
    shown = _most(found, [name for name, curves in panels.items() if curves])

    def precision_recall(axes: Axes, name: str) -> None:
        for look, detector, (curve, point) in _looks(panels[name]):
            axes.plot(curve[2], curve[1], **look, label=detector)
            axes.plot(point[1], point[0], "o", color=look["color"], markersize=5, zorder=4, clip_on=False)
        axes.set(xlim=(0, 1.03), ylim=(0, 1.03))

    def froc(axes: Axes, name: str) -> None:
        low, high = _LEAST_FALSE, FALSE_POSITIVES[-1]
        for look, detector, (curve, point) in _looks(panels[name]):
            # from no prediction at all to the edge of the panel
            rates = np.concatenate([[0.0], curve[3], [max(high, curve[3].max(initial=0))]])
            reached = np.concatenate([[0.0], curve[2], [curve[2].max(initial=0)]])
            axes.step(np.maximum(rates, low / 2), reached, where="post", **look, label=detector)
            axes.plot(
                np.clip(point[2], low, high), point[1], "o", color=look["color"], markersize=5, zorder=4, clip_on=False
            )
        axes.set(xscale="log", xlim=(low, high), ylim=(0, 1.03))
        axes.xaxis.set_major_locator(FixedLocator([low, 1 / 8, 1, high]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(
            FuncFormatter(lambda value, _: f"{value:g}" if value >= 1 else f"1/{1 / value:g}")
        )

    dot, rest = "the dot is the operating point, at the threshold of the class", _left_out(found, shown)
    return [
        _panels(
            f"precision_recall_{found.name}",
            f"Precision and recall at IoU {IOU_THRESHOLD:g}, class by class",
            f"{_size(found)}; {dot}{rest}.",
            shown,
            precision_recall,
            ("recall", "precision"),
            columns,
            rows,
        ),
        _panels(
            f"froc_{found.name}",
            "FROC: sensitivity against false alarms, class by class",
            f"{_size(found)}; {dot}, at the edge where it lies outside{rest}. False positives are of the class alone; "
            "the FROC of the table is the mean sensitivity at "
            f"{', '.join(f'{rate:g}' for rate in FALSE_POSITIVES)} false positives per image, as in LUNA16.",
            shown,
            froc,
            ("false positives per image", "sensitivity"),
            columns,
            rows,
        ),
    ]


def confusion_figure(found: Comparison) -> Drawn:
    """What the final detector takes for what, with background."""
    confusion = found.metrics[found.final]["confusion"]
    counts = np.array(confusion["counts"])
    totals = counts.sum(1, keepdims=True)
    shares: list[list[float | None]] = [
        (row / total).tolist() if total else [None] * len(row)
        for row, total in zip(counts, totals[:, 0].tolist(), strict=True)
    ]
    shares[-1][-1] = None  # what is neither true nor found is not counted
    true, predicted = [*confusion["classes"], "background"], [*confusion["classes"], "missed"]
    return draw(
        f"confusion_boxes_{found.name}",
        f"{found.final}: confusion of the classes",
        "Each row is a true class: the number of boxes, and their share of the row. The last row are false positives "
        "on the background, the last column boxes that were missed; each class at its threshold.",
        lambda figure: paint_confusion(figure, true, {"counts": counts.tolist(), "shares": shares}, predicted),
        ("true", *predicted),
        [(name, *row) for name, row in zip(true, counts.tolist(), strict=True)],
        height=2.2 + 0.42 * len(true),
        wide=True,
    )


def error_figure(found: Comparison) -> Drawn:
    """The errors of the final detector by kind, a bar for each class."""
    errors = found.metrics[found.final]["errors"]
    rows = [(name, *(own[kind] for kind in KINDS)) for name, own in errors.items()]
    kinds = [kind for kind in KINDS if len(errors) > 1 or kind not in ("classification", "both")]

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        left = np.zeros(len(errors))
        for kind in kinds:
            place = KINDS.index(kind)
            widths = np.array([row[1 + place] for row in rows])
            look = {"color": PALETTE[place], "hatch": _HATCHES[place], "edgecolor": "white", "linewidth": 0}
            axes.barh(list(errors), widths, left=left, label=kind, **look)
            left += widths
        for place, total in enumerate(left):
            axes.annotate(f" {total:.0f}", (total, place), va="center", fontsize=9)
        axes.invert_yaxis()
        axes.set_xlabel("boxes")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(x=0.12)
        axes.grid(axis="y", visible=False)
        figure.legend(loc="outside lower center", ncols=6 if len(errors) > 1 else 3)

    between = f"{BACKGROUND_IOU:g} to {IOU_THRESHOLD:g}"
    caption = (
        "Kinds of TIDE (Bolya et al., 2020) at the operating point: a false positive has an IoU of "
        f"{between} with a box of its class (localisation), above {IOU_THRESHOLD:g} with one that a surer prediction "
        f"has (duplicate), at most {BACKGROUND_IOU:g} with any (background)"
    )
    if len(errors) > 1:
        caption += f", above {IOU_THRESHOLD:g} with one of another class (classification), or none of these (both)"
    caption += "; missed: no prediction is about the box."
    title, high = f"{found.final}: kinds of errors", max(2.4, 1.7 + 0.26 * len(errors))
    wide = len(found.classes) > 1
    return draw(f"errors_{found.name}", title, caption, paint, ("class", *KINDS), rows, high, wide)


def calibration_figure(found: Comparison) -> Drawn:
    """Score against precision of the final detector, a panel for each class."""
    per_class = {
        name: own for name, own in found.metrics[found.final]["per_class"].items() if own.get("ece") is not None
    }
    shown = _most(found, list(per_class))

    def paint(axes: Axes, name: str) -> None:
        paint_bins(axes, per_class[name]["calibration"])
        axes.set_title(f"{_short(name)} ({per_class[name]['ece']:.3f})", fontsize=9)

    rows = [(name, *(row[key] for key in _BINS)) for name, own in per_class.items() for row in own["calibration"]]
    return _panels(
        f"calibration_{found.name}",
        f"{found.final}: calibration of the scores, class by class",
        _calibrated("In brackets the calibration error", _left_out(found, shown)),
        shown,
        paint,
        ("score", "precision"),
        ("class", "boxes", "score", "precision"),
        rows,
    )


def _calibration_of_one(found: Comparison) -> list[Drawn]:
    metrics = found.metrics[found.final]
    bins = metrics["calibration"]
    if not bins:
        return []
    return [
        draw(
            f"calibration_{found.name}",
            f"{found.final}: calibration of the scores",
            _calibrated(f"Calibration error {metrics['ece']:.3f}"),
            lambda figure: paint_reliability(figure, {"bins": bins}, "precision", "boxes"),
            ("boxes", "score", "precision"),
            [[row[key] for key in _BINS] for row in bins],
            height=4.6,
        )
    ]


def _calibrated(error: str, rest: str = "") -> str:
    return (
        f"{error}, the mean distance of score and precision at IoU {IOU_THRESHOLD:g} over all boxes, in bins of a "
        "tenth (D-ECE without position; Kueppers et al., 2020). Calibrated scores lie on the dashed line"
        f"{rest}."
    )


def _panels(
    name: str,
    title: str,
    caption: str,
    classes: Sequence[str],
    paint: Callable[[Axes, str], None],
    labels: tuple[str, str],
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
) -> Drawn:
    """A figure with a small panel for each class; all have the same axes."""
    down = -(-len(classes) // _ACROSS)

    def fill(figure: Figure) -> None:
        panels = figure.subplots(max(1, down), _ACROSS, squeeze=False, sharex=True, sharey=True)
        for axes, one in zip(panels.ravel(), classes, strict=False):
            axes.set_title(_short(one), fontsize=9)
            paint(axes, one)
        for place, axes in enumerate(panels.ravel()):
            axes.set_visible(place < len(classes))
            axes.tick_params(labelbottom=place < len(classes) <= place + _ACROSS, labelsize=8)
        figure.supxlabel(labels[0], fontsize=10)
        figure.supylabel(labels[1], fontsize=10)
        if classes:
            handles, texts = panels[0, 0].get_legend_handles_labels()
            figure.legend(handles, texts, loc="outside upper center", ncols=4)

    return draw(name, title, caption, fill, columns, rows, 1.1 + _HIGH * max(1, down), wide=True)


def _looks(curves: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], str, Any]]:
    for (detector, curve), colour, dash in zip(curves.items(), PALETTE * 2, DASHES * 2, strict=False):
        yield {"color": colour, "linestyle": dash, "linewidth": 1.4}, detector, curve


def _most(found: Comparison, names: Sequence[str]) -> list[str]:
    """The classes that have a panel, in their order: those with most boxes."""
    boxes = found.boxes
    chosen = sorted(names, key=lambda name: -boxes[name])[:_PANELS]
    return [name for name in names if name in chosen]


def _left_out(found: Comparison, shown: Sequence[str]) -> str:
    rest = [name for name in found.classes if name not in shown]
    if not rest:
        return ""
    named = ", ".join(rest[:3]) + (f" and {len(rest) - 3} more" if len(rest) > 3 else "")
    return f"; without a panel, for want of boxes or of space: {named}"


def _size(found: Comparison) -> str:
    boxes = [count for count in found.boxes.values() if count]
    return f"{len(found.images)} images, {sum(boxes)} boxes of {len(boxes)} classes"


def _short(name: str) -> str:
    return name if len(name) <= 24 else name[:23] + "…"
