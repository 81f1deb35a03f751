"""The boxes of all members on one image as one checked, normalised set, and the strategies that work on it.

``ensemble_boxes`` ends the process on lists of different lengths, sets the weights to 1 where their number is wrong,
swaps and clips coordinates, and prints where a box has no area. Nothing of that kind reaches it from here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike, NDArray

from covidmm.errors import ConfigError, DataError
from covidmm.findings import Detections
from covidmm.utils.boxes import areas, in_pixels, normalised


@dataclass(frozen=True)
class NormBoxes:
    """Boxes of one image as shares of its width and height, those of several members or fused ones.

    Attributes:
        boxes: (N, 4) float64 x1 y1 x2 y2 in 0..1, every one with an area.
        scores: (N,) float64 in 0..1.
        labels: (N,) int64 class indices.
        members: (N,) int64 index of the member that found the box; zeros where none are given.
    """

    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    labels: NDArray[np.int64]
    members: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def __post_init__(self) -> None:
        if len(self.members) != len(self.scores):
            object.__setattr__(self, "members", np.zeros(len(self.scores), np.int64))

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, chosen: NDArray) -> NormBoxes:
        """Some of the boxes, by mask or indices."""
        return NormBoxes(self.boxes[chosen], self.scores[chosen], self.labels[chosen], self.members[chosen])

    def best_first(self) -> NormBoxes:
        """The same by falling score; equal scores keep their order."""
        return self.take(np.argsort(-self.scores, kind="stable"))

    @classmethod
    def joined(cls, parts: Sequence[NormBoxes]) -> NormBoxes:
        """The boxes of all parts, in their order."""
        return cls(
            np.concatenate([np.zeros((0, 4)), *(one.boxes for one in parts)]),
            np.concatenate([np.zeros(0), *(one.scores for one in parts)]),
            np.concatenate([np.zeros(0, np.int64), *(one.labels for one in parts)]),
            np.concatenate([np.zeros(0, np.int64), *(one.members for one in parts)]),
        )

    def detections(self, size: tuple[int, int]) -> Detections:
        """The same in pixels of an image of ``size`` (height, width)."""
        return Detections(in_pixels(self.boxes, size), self.scores, self.labels)


class PooledStrategy(ABC):
    """An ensemble strategy that sees the boxes of all members as one pool, :class:`NormBoxes`."""

    def fuse(self, members: Sequence[Detections], weights: Sequence[float], size: tuple[int, int]) -> Detections:
        """Fuse one image.

        Boxes are clipped to the image; those without an area left are dropped with their scores.

        Args:
            members: what each detector found, boxes in pixels of the original image.
            weights: one positive number per member.
            size: height and width of the original image in pixels.

        Returns:
            Boxes in pixels of the original image, the highest score first.

        Raises:
            ConfigError: no member, or weights that are not positive, finite and one per member.
            DataError: a size that is none, a box with x2 < x1 or y2 < y1.
        """
        checked = require_weights(weights, len(members))
        return self.fuse_pool(pooled(members, size), checked).detections(size)

    @abstractmethod
    def fuse_pool(self, pool: NormBoxes, weights: NDArray[np.float64]) -> NormBoxes:
        """Fuse one image.

        Args:
            pool: the boxes of all members, perhaps none.
            weights: (M,) one positive number per member.

        Returns:
            The fused boxes, the highest score first.
        """


def pooled(members: Sequence[Detections], size: tuple[int, int]) -> NormBoxes:
    """Join the members' boxes, clip them to the image and drop what has no area.

    The order of the boxes does not depend on that of the members.

    Args:
        members: boxes in pixels of the original image.
        size: its height and width.

    Raises:
        DataError: a size that is none, a box with x2 < x1 or y2 < y1.
    """
    _require_size(size)
    for number, member in enumerate(members):
        inverted = np.flatnonzero((member.boxes[:, 2:] < member.boxes[:, :2]).any(1))
        if len(inverted):
            box = member.boxes[inverted[0]].tolist()
            raise DataError(f"member {number}: box {inverted[0]} has x2 < x1 or y2 < y1: {box}")
    counts = [len(member) for member in members]
    boxes = np.concatenate([np.zeros((0, 4)), *(member.boxes for member in members)])
    pool = NormBoxes(
        normalised(boxes, size).clip(0, 1),
        np.concatenate([np.zeros(0), *(member.scores for member in members)]),
        np.concatenate([np.zeros(0, np.int64), *(member.labels for member in members)]),
        np.repeat(np.arange(len(members)), counts),
    )
    pool = pool.take(areas(pool.boxes) > 0)
    # equal scores are later taken in this order, whichever member comes first
    return pool.take(np.lexsort((pool.scores, pool.labels, *pool.boxes.T)))


def require_weights(weights: Sequence[float], count: int) -> NDArray[np.float64]:
    """The weights as (M,) float64.

    Raises:
        ConfigError: there is no member, or the weights are not positive, finite and one per member.
    """
    if not count:
        raise ConfigError("an ensemble needs members, and there is none")
    try:
        checked = np.asarray(weights, np.float64)
    except (TypeError, ValueError):
        checked = np.zeros(0)
    if checked.shape != (count,) or not (np.isfinite(checked).all() and (checked > 0).all()):
        raise ConfigError(f"weights must be {count} positive numbers, one per member, not {_shown(weights)}")
    return checked


def require_unit(name: str, value: float) -> float:
    """A number of 0..1.

    Raises:
        ValueError: it is something else; the message names the argument.
    """
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 <= value <= 1:
        raise ValueError(f"{name} must be a number in 0..1, not {value!r}")
    return float(value)


def _require_size(size: tuple[int, int]) -> None:
    try:
        height, width = (float(side) for side in size)
    except (TypeError, ValueError):
        height = width = 0.0
    if not (0 < height < np.inf and 0 < width < np.inf):
        raise DataError(f"size must be the image's height and width in pixels, not {_shown(size)}")


def _shown(value: ArrayLike) -> str:
    return str(value.tolist() if isinstance(value, np.ndarray) else value)
