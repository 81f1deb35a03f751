"""The pulmonary vessels of a synthetic chest, as added attenuation."""

from __future__ import annotations

import numpy as np

from covidmm.phantom.canvas import Canvas, Picture, Points


def draw_vessels(canvas: Canvas, rng: np.random.Generator) -> Picture:
    """Pulmonary vessels: trees that leave the hila and grow thin towards the pleura."""
    levels: list[list[Points]] = [[] for _ in range(6)]
    for side in (-1, 1):
        hilum = np.array([side * (0.24 if side < 0 else 0.30), -0.10 if side < 0 else -0.16])
        for direction in np.linspace(-1.25, 1.42, 9):
            heading = direction + rng.normal(0, 0.08)
            start = hilum + rng.normal(0, 0.03, 2) + [0, 0.10 * heading]
            _branch(levels, start, heading, side, 0, rng)
    shadow = canvas.blank()
    for level, lines in enumerate(levels):
        drawn = canvas.strokes(lines, 0.025 * 0.72**level)
        shadow = np.maximum(shadow, 0.125 * 0.80**level * drawn)
    hila = canvas.blank()
    for side, y in ((-1, -0.06), (1, -0.13)):
        hila += np.exp(-(((canvas.x - side * 0.27) / 0.09) ** 2) - ((canvas.y - y) / 0.17) ** 2)
    return shadow + 0.10 * hila


def _branch(
    levels: list[list[Points]], start: Points, heading: float, side: int, level: int, rng: np.random.Generator
) -> None:
    """Grow one vessel from ``start`` towards ``heading`` (0 outwards, positive down) and its branches."""
    length = rng.uniform(0.14, 0.24) * (1.15 if level == 0 else 0.95**level)
    bend = rng.normal(0, 0.15)
    steps = [np.array([np.cos(heading + k * bend), np.sin(heading + k * bend)]) * length / 3 for k in range(3)]
    line = start + np.vstack([[0, 0], np.cumsum(steps, axis=0)]) * [side, 1]
    levels[level].append(line.astype(np.float32))
    if level + 1 == len(levels):
        return
    for turn in (rng.uniform(0.12, 0.42), -rng.uniform(0.12, 0.42)):
        if level < 3 or rng.random() < 0.75:
            _branch(levels, line[-1], heading + bend + turn, side, level + 1, rng)
