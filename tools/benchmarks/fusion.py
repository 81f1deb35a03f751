"""Fusing the boxes of two members, beside plain calls of ``ensemble_boxes``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from ensemble_boxes import nms, non_maximum_weighted, soft_nms, weighted_boxes_fusion
from numpy.typing import NDArray

import covidmm.ensembles
from benchmarks.timing import time_in_turn
from covidmm.findings import Detections
from covidmm.plugins import PluginManager

DISTRIBUTIONS = ("numpy", "numba", "ensemble-boxes")
#: Height and width of the images: those of a radiograph.
SIZE = (2336, 2836)
#: Largest difference in normalised coordinates and scores at which two results are the same.
TOLERANCE = 1e-6
MEMBERS = 2
_PLAIN = {"wbf": weighted_boxes_fusion, "nms": nms, "soft_nms": soft_nms, "nmw": non_maximum_weighted}

Lists = tuple[list[NDArray[np.float64]], list[NDArray[np.float64]], list[NDArray[np.int64]]]


@dataclass(frozen=True)
class FusionTiming:
    """One strategy on all images; seconds are medians.

    ``plain_seconds`` is the time of the plain calls on lists that are normalised already, ``ratio`` is
    ``seconds / plain_seconds``, below 1 where covidmm is faster, and ``differing`` the number of images on which the
    two disagree. They are None where the package has no such strategy or gives another result by design.
    """

    strategy: str
    seconds: float
    plain_seconds: float | None
    ratio: float | None
    differing: int | None


def benchmark(images: int = 600, boxes: int = 100, repeats: int = 5) -> dict[str, Any]:
    """Time every built-in strategy that needs no fitting on ``images`` images of two members with ``boxes`` boxes.

    covidmm's way is :meth:`fuse`, from boxes in pixels to boxes in pixels, with all checks. The plain way calls
    ``ensemble_boxes`` on lists that are normalised already. Both run to warm up, then ``repeats`` times in turn.

    Returns:
        ``timings`` holds :class:`FusionTiming` as dicts; ``accepted`` says whether each strategy that can be compared
        gives the package's result, but for one image of a hundred at most.

    Raises:
        ValueError: a number below 1.
    """
    if min(images, boxes, repeats) < 1:
        raise ValueError("images, boxes and repeats must be at least 1")
    manager = PluginManager([covidmm.ensembles], installed=False)
    members = [_members(np.random.default_rng(number), boxes) for number in range(images)]
    lists = [_lists(pair) for pair in members]
    timings = []
    for name in ("wbf", "nms", "soft_nms", "nmw", "best_single"):
        strategy = manager.build_strategy({"type": name})

        def ours(strategy: Any = strategy) -> list[Detections]:
            return [strategy.fuse(pair, (1, 1), SIZE) for pair in members]

        timings.append(_time(name, ours, _PLAIN.get(name), lists, repeats))
    return {
        "images": images,
        "members": MEMBERS,
        "boxes": boxes,
        "repeats": repeats,
        "timings": [asdict(one) for one in timings],
        # the package keeps fused boxes in float32: one whose IoU with a box lies at the threshold may not take it there
        "accepted": all((one.differing or 0) <= images / 100 for one in timings),
    }


def format_report(report: Mapping[str, Any]) -> str:
    """A table for people."""
    lines = [f"{'strategy':<12} {'ratio':>6} {'covidmm s':>10} {'ensemble_boxes s':>17}  differing images"]
    for one in report["timings"]:
        ratio, plain = ("-" if one[key] is None else f"{one[key]:.3f}" for key in ("ratio", "plain_seconds"))
        differing = "-" if one["differing"] is None else one["differing"]
        lines.append(f"{one['strategy']:<12} {ratio:>6} {one['seconds']:>10.3f} {plain:>17}  {differing}")
    return "\n".join(lines)


def _time(
    name: str,
    ours: Callable[[], list[Detections]],
    plain: Callable[..., Any] | None,
    lists: list[Lists],
    repeats: int,
) -> FusionTiming:
    if plain is None:
        seconds = time_in_turn(ours, ours, repeats).seconds
        return FusionTiming(name, seconds, None, None, None)

    def reference() -> list[Any]:
        return [plain(*one) for one in lists]

    results = ours(), reference()
    taken = time_in_turn(ours, reference, repeats)
    # soft_nms of the package returns scores from before the decay
    differing = None if name == "soft_nms" else sum(not _same(*pair) for pair in zip(*results, strict=True))
    return FusionTiming(name, *taken, differing)


def _same(found: Detections, plain: tuple[NDArray, NDArray, NDArray]) -> bool:
    """Whether every box has its counterpart; the order of nearly equal scores is free."""
    height, width = SIZE
    ours = np.column_stack([found.boxes / [width, height, width, height], found.scores])
    theirs = np.column_stack(plain[:2])
    return len(ours) == len(theirs) and bool(np.abs(ours[:, None] - theirs).max(2).min(1).max() <= TOLERANCE)


def _members(random: np.random.Generator, boxes: int) -> list[Detections]:
    """Two members: half of the boxes around two lungs, the others anywhere, no score twice."""
    height, width = SIZE
    total = MEMBERS * boxes
    lungs = np.array([[0.10, 0.20, 0.42, 0.75], [0.56, 0.20, 0.90, 0.78]])
    near = lungs[random.integers(0, len(lungs), total)] + random.normal(0, 0.04, (total, 4))
    low = random.uniform(0, 0.7, (total, 2))
    away = np.hstack([low, low + random.uniform(0.05, 0.3, (total, 2))])
    shares = np.where(np.arange(total)[:, None] % 2, near, away).clip(0, 1)
    scores = random.permutation(np.linspace(0.01, 0.99, total)) ** 2
    pixels = shares * [width, height, width, height]
    return [Detections(pixels[k::MEMBERS], scores[k::MEMBERS]) for k in range(MEMBERS)]


def _lists(members: list[Detections]) -> Lists:
    height, width = SIZE
    boxes = [member.boxes.astype(np.float64) / [width, height, width, height] for member in members]
    return boxes, [member.scores.astype(np.float64) for member in members], [member.labels for member in members]
