"""Figures of results of one class of boxes, precision and recall, FROC; and of studies, confusion and reliability."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from covidmm.evaluation.detection import IOU_THRESHOLD
from covidmm.evaluation.ranking import Ranking
from covidmm.reports.detections import Comparison
from covidmm.reports.figures.png_figures import paint_confusion, paint_reliability
from covidmm.reports.figures.style import DASHES, PALETTE, Drawn, draw

# FROC is shown from one false positive an image, or four times the operating point, up to eight, where LUNA16 (Setio
# et al., 2017) ends; the numbers have all of it.
_LEAST_FALSE, _AROUND, _MOST_FALSE = 1.0, 4.0, 8.0
_POINTS = 500


def comparison_figures(found: Comparison) -> list[Drawn]:
    """Precision-recall and FROC of every detector, where there is one class."""
    rankings = {name: own[0] for name, own in found.rankings.items()}
    curves = {name: curve_of(ranking, len(found.images)) for name, ranking in rankings.items()}
    rows = [
        (name, *(f"{value:.6g}" for value in point)) for name, curve in curves.items() for point in curve.T.tolist()
    ]
    columns = ("detector", "score", "precision", "recall", "false_positives_per_image")
    points = {
        name: operating_point(rankings[name], float(found.thresholds(name)[0]), len(found.images)) for name in curves
    }

    def precision_recall(figure: Figure) -> None:
        axes = figure.add_subplot()
        for (name, curve), colour, dash in zip(curves.items(), PALETTE * 2, DASHES * 2, strict=False):
            axes.plot(curve[2], curve[1], color=colour, linestyle=dash, label=_legend(name, found))
            axes.plot(points[name][1], points[name][0], "o", color=colour, markersize=8, zorder=4)
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02))
        figure.legend(loc="outside lower center", ncols=1 if len(curves) < 3 else 2)

    def froc(figure: Figure) -> None:
        axes = figure.add_subplot()
        for (name, curve), colour, dash in zip(curves.items(), PALETTE * 2, DASHES * 2, strict=False):
            axes.step(curve[3], curve[2], where="post", color=colour, linestyle=dash, label=name)
            axes.plot(points[name][2], points[name][1], "o", color=colour, markersize=8, zorder=4)
        limit = min(_MOST_FALSE, max(_LEAST_FALSE, _AROUND * max(point[2] for point in points.values())))
        axes.set(xlabel="false positives per image", ylabel="sensitivity", xlim=(-0.01 * limit, limit), ylim=(0, 1.02))
        figure.legend(loc="outside lower center", ncols=min(4, len(curves)))

    size = f"{len(found.images)} images, {sum(map(len, found.truths))} boxes"
    dot = "the dot is the operating point, at the threshold of the table"
    height = 3.6 + 0.12 * len(curves)
    return [
        draw(
            f"precision_recall_{found.name}",
            f"Precision and recall at IoU {IOU_THRESHOLD:g}",
            f"{size}; {dot}. In brackets mAP@.50.",
            precision_recall,
            columns,
            rows,
            height,
        ),
        draw(
            f"froc_{found.name}",
            "FROC: sensitivity against false alarms",
            f"{size}; {dot}. A box counts at an IoU above {IOU_THRESHOLD:g}.",
            froc,
            columns,
            rows,
            height,
        ),
    ]


def label_figures(name: str, details: Mapping[str, Any]) -> list[Drawn]:
    """Confusion matrix and reliability of a single-label classifier; nothing of a multi-label one.

    Args:
        name: of the run.
        details: as :func:`covidmm.evaluation.classification.score_studies` gives them.
    """
    if not {"confusion", "calibration", "classes"} <= details.keys():
        return []
    classes, counts = details["classes"], details["confusion"]["counts"]
    bins = details["calibration"]["bins"]
    columns = ("count", "confidence", "accuracy")
    return [
        draw(
            f"confusion_{name}",
            "Confusion of the classes",
            "Each row is a true class: the number of cases, and their share of the row.",
            lambda figure: paint_confusion(figure, classes, details["confusion"]),
            ("true", *classes),
            [(true, *row) for true, row in zip(classes, counts, strict=True)],
            height=4.0,
        ),
        draw(
            f"reliability_{name}",
            "Reliability",
            f"Expected calibration error {details['calibration']['ece']:.3f}. A model is calibrated where the dots lie "
            "on the dashed line; below, how many cases each bin holds.",
            lambda figure: paint_reliability(figure, details["calibration"]),
            columns,
            [[row[key] for key in columns] for row in bins],
            height=4.6,
        ),
    ]


def curve_of(ranking: Ranking, images: int, points: int = _POINTS) -> NDArray[np.float64]:
    """(4, K) score, precision, recall and false positives per image as the score falls, thinned to some ``points``."""
    found = np.cumsum(ranking.hits)
    kept = np.arange(1, len(found) + 1)
    last = np.append(np.diff(ranking.scores) != 0, True)[: len(found)]
    # nothing but hits moves the curve up: the ends of the runs of false positives are enough
    turns = last & (ranking.hits | np.append(ranking.hits[1:], True)[: len(found)])
    curve = np.stack(
        [ranking.scores, found / kept, found / max(1, ranking.truths.sum()), (kept - found) / max(1, images)]
    )[:, turns]
    # the last one is the end of the curve
    chosen = np.union1d(np.arange(0, curve.shape[1], max(1, curve.shape[1] // points)), [curve.shape[1] - 1])
    return curve[:, chosen.astype(int)] if curve.shape[1] else curve


def operating_point(ranking: Ranking, threshold: float, images: int) -> tuple[float, float, float]:
    """Precision, recall and false positives per image at a threshold."""
    precision, recall, _ = ranking.at(threshold)
    false = int(((ranking.scores >= threshold) & ~ranking.hits).sum())
    return precision, recall, false / max(1, images)


def _legend(name: str, found: Comparison) -> str:
    return f"{name} ({found.metrics[name]['mAP_50']:.3f})"
