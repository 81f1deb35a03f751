"""Anchors for a data set: k-means over the sides of its boxes, and how well any anchors fit them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2

from covidmm.datasets.annotations import read_annotations
from covidmm.errors import ConfigError, DataError

#: YOLOv5's anchors (width, height) at 640 px, fitted to COCO: the default of its P5 models.
COCO_ANCHORS = ((10, 13), (16, 30), (33, 23), (30, 61), (62, 45), (59, 119), (116, 90), (156, 198), (373, 326))
#: Sides may differ from an anchor's by this factor for it to answer (``AnchorRatioAssigner``).
MAX_RATIO = 4.0


@dataclass(frozen=True)
class Fit:
    """How anchors fit boxes, by the larger of the two side ratios to the best anchor.

    ``recall`` is the best possible recall, the share of boxes below ``MAX_RATIO``; ``ratio`` the geometric mean
    of that ratio, 1 being perfect; ``answering`` the mean number of anchors that answer for a box.
    """

    recall: float
    ratio: float
    answering: float


def box_sides(annotations: Path, size: int) -> NDArray[np.float64]:
    """(N, 2) widths and heights of the boxes of a COCO file, crowds left out, in pixels of a letterbox of ``size``.

    Raises:
        DataError: not a COCO file, or without a box.
    """
    coco = read_annotations(annotations, empty=True)
    scales = {image["id"]: size / max(image["width"], image["height"]) for image in coco["images"]}
    boxes = [one for one in coco["annotations"] if not one.get("iscrowd")]
    sides = [[side * scales[one["image_id"]] for side in one["bbox"][2:]] for one in boxes]
    if not sides:
        raise DataError(f"{annotations}: holds no box")
    return np.array(sides, np.float64)


def fit_of(sides: NDArray[np.float64], anchors: NDArray[np.float64]) -> Fit:
    """How ``anchors`` (A, 2) fit boxes of ``sides`` (N, 2)."""
    quotient = sides[:, None] / anchors
    ratios = np.maximum(quotient, 1 / quotient).max(2)
    best = ratios.min(1)
    answering = (ratios < MAX_RATIO).sum(1)
    return Fit(float((best < MAX_RATIO).mean()), float(np.exp(np.log(best).mean())), float(answering.mean()))


def fit_anchors(sides: NDArray[np.float64], number: int = 9, seed: int = 0) -> NDArray[np.float64]:
    """(number, 2) anchors for boxes of ``sides`` (N, 2), by area.

    K-means over the logarithms of the sides, because the assigner compares ratios.

    Raises:
        DataError: fewer different boxes than anchors.
    """
    logarithms = np.log(sides)
    if len(np.unique(logarithms, axis=0)) < number:
        raise DataError(f"{len(sides)} boxes are too few for {number} anchors")
    centres, _ = kmeans2(logarithms, number, minit="++", iter=100, rng=np.random.default_rng(seed), missing="raise")
    anchors = np.exp(centres)
    return anchors[np.argsort(anchors.prod(1))]


def anchor_report(annotations: Path, size: int, levels: int = 3, seed: int = 0) -> str:
    """What ``tools/prepare.py anchors`` prints: the default anchors, fitted ones, and these as config text."""
    if size < 1 or seed < 0:
        raise ConfigError(f"expected a --size of at least 1 and a --seed of at least 0, got {size} and {seed}")
    sides = box_sides(annotations, size)
    fitted = fit_anchors(sides, 3 * levels, seed)
    lines = [
        f"{annotations}: {len(sides)} boxes; at {size} px their sides are "
        f"{np.median(sides[:, 0]):.0f} x {np.median(sides[:, 1]):.0f} px (medians), "
        f"{sides.min():.0f} to {sides.max():.0f} px",
        f"{'anchors':<16} {'best possible recall':>20} {'side ratio':>10} {'anchors per box':>15}",
    ]
    for name, anchors in (("COCO (default)", np.array(COCO_ANCHORS, float)), ("fitted", fitted)):
        fit = fit_of(sides, anchors)
        lines.append(f"{name:<16} {fit.recall:>20.1%} {fit.ratio:>10.2f} {fit.answering:>15.1f}")
    rounded = [tuple(round(float(side)) for side in anchor) for anchor in fitted]
    groups = [rounded[3 * level : 3 * level + 3] for level in range(levels)]
    lines.append(f"model = dict(bbox_head=dict(prior_generator=dict(base_sizes={groups})))")
    return "\n".join(lines)
