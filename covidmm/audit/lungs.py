"""Outlines the lungs roughly by grey levels: good enough for inside or outside, no segmentation.

Two dark regions away from the image's edges, one on each side, are each joined with the mirror image of the other,
because an opacity makes a lung as bright as what lies around it, and filled to their convex hull.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

#: Side of the square that outlines are found in and given in, pixels.
SIDE = 128
# Shares of the picture, chosen here by looking at public radiographs.
_REGION = (0.02, 0.30)
_BOTH = (0.12, 0.60)
_MARGIN = 0.025
# Shares of Otsu's threshold, from the first that gives two regions; a lower one parts lungs from the air outside.
_CUTS = (1.0, 0.9, 0.8, 0.7)


def find_lungs(pixels: NDArray[np.uint8]) -> NDArray[np.bool_] | None:
    """The lungs with a margin, on the picture squeezed to a square.

    Args:
        pixels: (H, W), air black.

    Returns:
        (128, 128), or None where no two regions look like lungs.
    """
    small = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(cv2.createCLAHE(2.0, (4, 4)).apply(small), (0, 0), 1.5)
    inner = np.ascontiguousarray(small[SIDE // 8 : -SIDE // 8, SIDE // 10 : -SIDE // 10])
    threshold, _ = cv2.threshold(inner, 0, 255, cv2.THRESH_OTSU)
    for cut in _CUTS:
        regions = _regions((small < threshold * cut).astype(np.uint8))
        if regions is not None:
            return _whole(*regions)
    return None


def _regions(dark: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]] | None:
    """The largest dark region of the left half and of the right half that touches no edge."""
    opened = cv2.morphologyEx(dark, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5)))
    _, names, boxes, centres = cv2.connectedComponentsWithStats(opened, connectivity=4)
    largest: dict[bool, tuple[int, int]] = {}
    for index, (x, y, width, height, area) in enumerate(boxes[1:], start=1):
        inside = min(x, y) > 1 and max(x + width, y + height) < SIDE - 1
        if inside and _REGION[0] <= area / SIDE**2 <= _REGION[1]:
            half = bool(centres[index][0] > SIDE / 2)
            largest[half] = max(largest.get(half, (0, 0)), (int(area), index))
    if len(largest) < 2:
        return None
    left, right = (_hull((names == largest[half][1]).astype(np.uint8)) for half in (False, True))
    return (left, right) if _BOTH[0] < np.mean(left | right) < _BOTH[1] else None


def _whole(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Each region joined with the other's mirror image, and a margin around both."""
    columns = np.flatnonzero((left | right).any(0))
    middle = (columns[0] + columns[-1]) / 2
    mirror = np.array([[-1, 0, 2 * middle], [0, 1, 0]], np.float64)
    first = left | cv2.warpAffine(right, mirror, (SIDE, SIDE), flags=cv2.INTER_NEAREST)
    second = right | cv2.warpAffine(left, mirror, (SIDE, SIDE), flags=cv2.INTER_NEAREST)
    side = 2 * round(_MARGIN * SIDE) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return cv2.dilate(_hull(first) | _hull(second), kernel).astype(bool)


def _hull(region: NDArray[np.uint8]) -> NDArray[np.uint8]:
    filled = np.zeros_like(region)
    return cv2.fillConvexPoly(filled, cv2.convexHull(cv2.findNonZero(region)), 1)
