"""A canvas for drawing anatomy: takes shapes in body coordinates and returns masks in pixels.

Body coordinates: x grows to the right of the picture (the patient's left), y downwards; the inner thorax is
about 2 units wide and its centre is the origin, so one unit is roughly 13 cm of an adult.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float32]
Points = NDArray[np.float32]

_SHIFT = 4  # OpenCV draws polygons with 2**-4 pixel coordinates


class Canvas:
    """An empty picture and its placement in body coordinates.

    Args:
        height: rows of the picture.
        width: columns of the picture.
        unit: pixels per body unit.
        centre: (x, y) of the body's origin, in pixels.
        angle: rotation of the body in degrees, clockwise on the screen.
    """

    def __init__(self, height: int, width: int, unit: float, centre: tuple[float, float], angle: float) -> None:
        self.height, self.width, self.unit = height, width, unit
        turn = np.deg2rad(angle)
        self._matrix = unit * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        self._centre = np.array(centre)
        columns, rows = np.meshgrid(np.arange(width) - centre[0], np.arange(height) - centre[1])
        inverse = np.linalg.inv(self._matrix)
        self.x: Picture = (inverse[0, 0] * columns + inverse[0, 1] * rows).astype(np.float32)
        self.y: Picture = (inverse[1, 0] * columns + inverse[1, 1] * rows).astype(np.float32)

    def pixels(self, points: Points) -> NDArray[np.int32]:
        """(N, 2) body coordinates as OpenCV's fixed-point pixel coordinates."""
        placed = np.asarray(points) @ self._matrix.T + self._centre
        return np.round(placed * (1 << _SHIFT)).astype(np.int32)

    def bounds(self, points: Points) -> NDArray[np.int64]:
        """x1 y1 x2 y2 in pixels around (N, 2) body coordinates, cut to the picture."""
        placed = self.pixels(points) / (1 << _SHIFT)
        box = np.concatenate([np.floor(placed.min(0)), np.ceil(placed.max(0))])
        return np.clip(box, 0, [self.width, self.height] * 2).astype(np.int64)

    def blank(self) -> Picture:
        """A picture of zeros."""
        return np.zeros((self.height, self.width), np.float32)

    def fill(self, *outlines: Points) -> Picture:
        """The union of closed outlines, 0..1 with smooth edges."""
        mask = np.zeros((self.height, self.width), np.uint8)
        for outline in outlines:
            cv2.fillPoly(mask, [self.pixels(outline)], 255, cv2.LINE_AA, _SHIFT)
        return mask.astype(np.float32) / 255

    def depth(self, mask: Picture) -> Picture:
        """How far inside a mask each pixel lies, in body units (0 outside)."""
        inside = (mask > 0.5).astype(np.uint8)
        # Not DIST_MASK_PRECISE: its last bits vary with the place in memory, and a seed must give one result.
        return cv2.distanceTransform(inside, cv2.DIST_L2, 5) / self.unit

    def distance(self, lines: Iterable[Points]) -> Picture:
        """How far each pixel lies from the nearest of some open lines, in body units."""
        off = np.ones((self.height, self.width), np.uint8)
        placed = [self.pixels(line) for line in lines]
        cv2.polylines(off, placed, False, 0, 1, cv2.LINE_8, _SHIFT)
        return np.minimum(cv2.distanceTransform(off, cv2.DIST_L2, 5) / self.unit, 10.0)

    def tubes(self, lines: Sequence[Points], radius: float, cortex: float = 0.0) -> Picture:
        """Shadows of hollow tubes along lines: a rounded body, and a shell that is brighter by ``cortex``."""
        if not lines:
            return self.blank()
        across = self.distance(lines) / radius
        body = np.sqrt(np.clip(1 - across**2, 0, 1))
        shell = np.exp(-(((across - 0.86) / 0.14) ** 2))
        return self.blur(body + cortex * shell, 0.5 / self.unit)

    def strokes(self, lines: Sequence[Points], radius: float) -> Picture:
        """Soft solid lines, 0..1, for many thin things at once (vessels, wires)."""
        mask = np.zeros((self.height, self.width), np.uint8)
        thickness = max(1, round(2 * radius * self.unit))
        cv2.polylines(mask, [self.pixels(line) for line in lines], False, 255, thickness, cv2.LINE_AA, _SHIFT)
        thin = min(1.0, 2 * radius * self.unit)  # a line thinner than a pixel shades it in part
        return self.blur(mask.astype(np.float32) * (thin / 255), 0.5 * radius)

    def blur(self, picture: Picture, radius: float) -> Picture:
        """Gaussian blur with a standard deviation in body units; wide ones on a coarser grid, for speed."""
        sigma = radius * self.unit
        coarse = int(sigma // 4)
        if coarse < 2:
            return cv2.GaussianBlur(picture, (0, 0), max(sigma, 0.3))
        small = (max(2, self.width // coarse), max(2, self.height // coarse))
        shrunk = cv2.resize(picture, small, interpolation=cv2.INTER_AREA)
        shrunk = cv2.GaussianBlur(shrunk, (0, 0), sigma / coarse)
        return cv2.resize(shrunk, (self.width, self.height), interpolation=cv2.INTER_CUBIC)

    def noise(self, rng: np.random.Generator, grain: float) -> Picture:
        """Smooth random relief of zero mean and unit deviation whose bumps are about ``grain`` units wide."""
        step = max(1.0, grain * self.unit)
        shape = (max(2, round(self.height / step) + 2), max(2, round(self.width / step) + 2))
        coarse = rng.standard_normal(shape, dtype=np.float32)
        relief = cv2.resize(coarse, (self.width, self.height), interpolation=cv2.INTER_CUBIC)
        return (relief - relief.mean()) / max(float(relief.std()), 1e-6)


def smooth(points: Sequence[tuple[float, float]] | Points, closed: bool, samples: int = 12) -> Points:
    """A Catmull-Rom curve through control points.

    Returns:
        (M, 2) points; the curve passes through every control point.
    """
    knots = np.asarray(points, np.float32)
    if closed:
        knots = np.vstack([knots[-1:], knots, knots[:2]])
    else:
        knots = np.vstack([2 * knots[0] - knots[1], knots, 2 * knots[-1] - knots[-2]])
    t = np.linspace(0, 1, samples, endpoint=False, dtype=np.float32)[:, None, None]
    a, b, c, d = (knots[k : len(knots) - 3 + k] for k in range(4))
    segments = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    curve = segments.transpose(1, 0, 2).reshape(-1, 2)
    return curve if closed else np.vstack([curve, knots[-2:-1]])


def ramp(value: Picture, low: float, high: float) -> Picture:
    """0 below ``low``, 1 above ``high``, smooth between (Hermite's cubic step)."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)
