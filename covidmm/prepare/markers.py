"""Finds and masks letters and plates burned into radiographs (side markers, 'PORTABLE', arrows).

A marker is brighter than all that lies around it, of one brightness, sharp-edged and small. The white top-hat
(Serra, 1982) keeps what is narrower than its kernel; of its connected parts those are kept that have the size,
contrast, evenness and edge of a letter, and neighbours are joined into one region.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

# Lengths as shares of the shorter side; grey values of 255. Chosen here, by looking at public radiographs.
_KERNEL = 0.05
_HEIGHTS = (0.012, 0.09)
_MAX_WIDTH = 0.12
_JOIN = 0.012
_MIN_STROKE = 0.005
_MAX_LINE = 0.3
_CONTRAST = 65
_MIN_GREY = 150
_MIN_EDGE = 0.3
_MIN_FILL = 0.15
_MAX_UNEVEN = 42
# A larger picture is searched at this shorter side: the lengths are shares of it, and the time of the top-hat grows
# with its fourth power. Chosen here.
_SEARCHED_SIDE = 1024


def find_markers(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Regions that look like burned-in letters.

    Args:
        pixels: (H, W), air black.

    Returns:
        (N, 4) x1 y1 x2 y2 in pixels, x2 and y2 exclusive, from top to bottom.
    """
    shrink = max(1.0, min(pixels.shape) / _SEARCHED_SIDE)
    if shrink > 1:
        height, width = pixels.shape
        small = cv2.resize(pixels, (round(width / shrink), round(height / shrink)), interpolation=cv2.INTER_AREA)
        scales = np.array([width, height] * 2) / np.array([*small.shape[::-1]] * 2)
        found = find_markers(small) * scales
        return np.concatenate([np.floor(found[:, :2]), np.ceil(found[:, 2:])], 1).astype(np.int64)
    shorter = min(pixels.shape)
    side = max(5, round(_KERNEL * shorter)) | 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    raised = cv2.morphologyEx(cv2.copyMakeBorder(pixels, *[side] * 4, cv2.BORDER_REPLICATE), cv2.MORPH_TOPHAT, kernel)
    raised = raised[side:-side, side:-side]
    mask = ((raised >= _CONTRAST) & (pixels >= _MIN_GREY)).astype(np.uint8)
    count, names, boxes, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    letters = np.zeros_like(mask)
    for index in range(1, count):
        x, y, width, height, area = boxes[index]
        if not (_HEIGHTS[0] * shorter <= max(width, height) and height <= _HEIGHTS[1] * shorter):
            continue
        if width > _MAX_WIDTH * shorter or area < max(6, _MIN_FILL * width * height):
            continue
        if min(width, height) < _MIN_STROKE * shorter or _hugs_edge(boxes[index], pixels.shape):
            continue
        window = slice(max(0, y - 2), y + height + 2), slice(max(0, x - 2), x + width + 2)
        if _is_printed(pixels[window], names[window] == index):
            letters[y : y + height, x : x + width] = 1
    found = _join(letters, max(1, round(_JOIN * shorter)))
    # longer than any line of text: ribs or wires in a row
    return found[(found[:, 2:] - found[:, :2]).max(1, initial=0) <= _MAX_LINE * shorter]


def mask_markers(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], int]:
    """Paint over the regions of :func:`find_markers` from their surroundings (Telea, 2004).

    Returns:
        The pixels, a copy where anything was painted over, and the number of regions.
    """
    found = find_markers(pixels)
    if not len(found):
        return pixels, 0
    mask = np.zeros_like(pixels)
    margin = max(2, round(0.004 * min(pixels.shape)))
    for x1, y1, x2, y2 in found:
        mask[max(0, y1 - margin) : y2 + margin, max(0, x1 - margin) : x2 + margin] = 1
    return cv2.inpaint(np.ascontiguousarray(pixels), mask, 3, cv2.INPAINT_TELEA), len(found)


def _hugs_edge(box: NDArray[np.int32], shape: tuple[int, ...]) -> bool:
    """Whether a part lies along a side of the picture: a strip of an unexposed margin, not a letter."""
    x, y, width, height = box[:4]
    upright = (x == 0 or x + width == shape[1]) and height > 2 * width
    return bool(upright or ((y == 0 or y + height == shape[0]) and width > 2 * height))


def _is_printed(pixels: NDArray[np.uint8], part: NDArray[np.bool_]) -> bool:
    """Whether a part is even inside and ends at once: most of its fall is within two pixels."""
    inside = pixels[part].astype(np.float32)
    ring = cv2.dilate(part.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool) & ~part
    around = pixels[ring].astype(np.float32)
    if not len(around):
        return False
    high, low = np.quantile(inside, 0.75), np.quantile(around, 0.25)
    return bool(high - low >= _CONTRAST and inside.std() <= _MAX_UNEVEN and (high - low) >= _MIN_EDGE * high)


def _join(letters: NDArray[np.uint8], reach: int) -> NDArray[np.int64]:
    """Boxes of letters that are at most ``2 * reach`` pixels apart."""
    grown = cv2.dilate(letters, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
    count, names = cv2.connectedComponents(grown)
    found = []
    for index in range(1, count):
        rows, columns = np.nonzero(letters & (names == index))
        found.append((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
    return np.array(sorted(found, key=lambda box: (box[1], box[0])), np.int64).reshape(-1, 4)
