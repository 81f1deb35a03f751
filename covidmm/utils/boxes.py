"""Conversions of boxes, and their overlap; every other module calls these.

Boxes are (N, 4). ``corners`` are x1 y1 x2 y2, ``xywh`` x y width height as in COCO files; ``size`` is (height, width).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def corners(xywh: ArrayLike) -> NDArray[np.float64]:
    """Boxes x y width height as x1 y1 x2 y2; (0, 4) where there are none."""
    boxes = np.array(xywh, np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def xywh(boxes: ArrayLike) -> NDArray[np.float64]:
    """Boxes x1 y1 x2 y2 as x y width height, as COCO files have them."""
    found = np.array(boxes, np.float64).reshape(-1, 4)
    found[:, 2:] -= found[:, :2]
    return found


def normalised(boxes: ArrayLike, size: Sequence[float]) -> NDArray[np.float64]:
    """Boxes in pixels as shares, 0..1, of an image of ``size`` (height, width)."""
    height, width = size
    return np.asarray(boxes, np.float64).reshape(-1, 4) / [width, height, width, height]


def in_pixels(boxes: ArrayLike, size: Sequence[float]) -> NDArray[np.float64]:
    """Boxes as shares of an image in pixels of its ``size`` (height, width)."""
    height, width = size
    return np.asarray(boxes, np.float64).reshape(-1, 4) * [width, height, width, height]


def rescaled(boxes: ArrayLike, size: Sequence[float], new_size: Sequence[float]) -> NDArray[np.float64]:
    """Boxes, corners or xywh, in pixels of an image of ``size``, in those of the same image in ``new_size``."""
    down, across = new_size[0] / size[0], new_size[1] / size[1]
    return np.asarray(boxes, np.float64).reshape(-1, 4) * [across, down, across, down]


def cut_to_image(boxes: ArrayLike, size: Sequence[float]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Corner boxes (N, 4) cut to an image of ``size`` (height, width), and which (N,) have an area left.

    Every prediction goes through it: a network sees padding around an image, and may answer with boxes that reach, or
    lie, in it. Boxes that are not finite count as left, so that whoever uses them sees them.
    """
    height, width = size
    found = np.clip(np.asarray(boxes, np.float64).reshape(-1, 4), 0, [width, height, width, height])
    return found, ~(found[:, 2:] <= found[:, :2]).any(1)


def areas(boxes: ArrayLike) -> NDArray[np.float64]:
    """(N,) areas of corner boxes."""
    found = np.asarray(boxes, np.float64).reshape(-1, 4)
    return (found[:, 2] - found[:, 0]) * (found[:, 3] - found[:, 1])


def iou(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """Intersection over union of (N, 4) and (M, 4) corner boxes: (N, M)."""
    first, second = (np.asarray(one, np.float64).reshape(-1, 4) for one in (first, second))
    if not len(first) or not len(second):  # of most classes on most images
        return np.zeros((len(first), len(second)))
    shared = _shared(first, second)
    union = areas(first)[:, None] + areas(second)[None, :] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def shares_inside(boxes: ArrayLike, regions: ArrayLike) -> NDArray[np.float64]:
    """How much of each of (N, 4) corner boxes lies in each of (M, 4) regions: (N, M), COCOeval's IoU with a crowd."""
    boxes, regions = (np.asarray(one, np.float64).reshape(-1, 4) for one in (boxes, regions))
    if not len(boxes) or not len(regions):
        return np.zeros((len(boxes), len(regions)))
    shared, own = _shared(boxes, regions), areas(boxes)[:, None]
    return np.divide(shared, own, out=np.zeros_like(shared), where=own > 0)


def _shared(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    sides = np.minimum(first[:, None, 2:], second[None, :, 2:]) - np.maximum(first[:, None, :2], second[None, :, :2])
    np.maximum(sides, 0, out=sides)
    return sides[..., 0] * sides[..., 1]
