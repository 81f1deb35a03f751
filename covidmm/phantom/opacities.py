"""Opacities by study class, after the grading of the RSNA expert consensus that SIIM's labels follow.

Typical: both lungs, peripheral, lower zones first. Indeterminate: one lung, or around the hila. Atypical:
effusion, pneumothorax, lobar consolidation, nodules or masses. Negative: none
(Litmanovich et al., Journal of Thoracic Imaging 2020, table 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from covidmm.phantom.anatomy import Thorax
from covidmm.phantom.canvas import Canvas, Picture, ramp
from covidmm.utils.boxes import corners

VISIBLE = 0.04
"""Added attenuation above which a pixel belongs to an opacity: about 8 of 255 grey levels over a lung.

A box is the tight bounds of such pixels.
"""

KINDS = ("opacity", "consolidation", "effusion", "nodule", "pneumothorax")
"""Patches and perihilar clouds, lobes, fluid, round masses, and free air."""

_SMALLEST = 0.09  # the least side of a box, as a share of the image's width
_TRIES = 40


@dataclass(frozen=True)
class Opacities:
    """What a disease adds to a chest.

    Attributes:
        density: (H, W) added attenuation of all opacities, >= 0.
        signs: (H, W) attenuation that belongs to the disease but is no opacity (a pneumothorax' extra air and
            its pleural line); no box covers it.
        boxes: (N, 4) int, x1 y1 x2 y2 in pixels, x2 and y2 exclusive: the tight bounds of each region
            where ``density`` exceeds :data:`VISIBLE`.
        kinds: the same boxes by what they surround, one of :data:`KINDS`; and the one around a pneumothorax.
    """

    density: Picture
    signs: Picture
    boxes: NDArray[np.int64]
    kinds: Mapping[str, NDArray[np.int64]]


def draw_opacities(canvas: Canvas, thorax: Thorax, study_class: str, rng: np.random.Generator) -> Opacities:
    """Place opacities of a study class on a chest.

    Args:
        canvas: the canvas that the chest was drawn on.
        thorax: the chest.
        study_class: one of :data:`covidmm.findings.STUDY_CLASSES`.
        rng: draws kind, place and size.

    Returns:
        One box per region; regions whose boxes meet count as one.
    """
    painter = _Painter(canvas, thorax, rng)
    draw = {
        "negative": lambda: [],
        "typical": painter.typical,
        "indeterminate": painter.indeterminate,
        "atypical": painter.atypical,
    }[study_class]
    density = canvas.blank()
    for region in draw():
        density = np.maximum(density, region)
    boxes = bounds(density)
    kinds = {painter.kind: boxes}
    if painter.air is not None:
        # one, though the mediastinum may cut the rim of air
        pieces = bounds(painter.air)
        kinds["pneumothorax"] = np.concatenate([pieces[:, :2].min(0), pieces[:, 2:].max(0)])[None]
    return Opacities(density, painter.signs, boxes, kinds)


def bounds(density: Picture) -> NDArray[np.int64]:
    """(N, 4) x1 y1 x2 y2 around the visible regions, those with meeting boxes joined, in reading order."""
    count, _, stats, _ = cv2.connectedComponentsWithStats((density > VISIBLE).astype(np.uint8))
    boxes = [tuple(box) for box in corners(stats[1:count, :4]).astype(int).tolist()]
    joined: list[tuple[int, int, int, int]] = []
    while boxes:
        box = boxes.pop()
        meeting = [other for other in joined if _meet(box, other)]
        if not meeting:
            joined.append(box)
            continue
        joined = [other for other in joined if other not in meeting]
        group = np.array([box, *meeting])
        boxes.append((*group[:, :2].min(0).tolist(), *group[:, 2:].max(0).tolist()))
    return np.array(sorted(joined), np.int64).reshape(-1, 4)


def _meet(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    return a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3]


class _Painter:
    """Draws single regions; each is the largest connected piece of what was asked for, and big enough."""

    def __init__(self, canvas: Canvas, thorax: Thorax, rng: np.random.Generator) -> None:
        self.canvas, self.thorax, self.rng = canvas, thorax, rng
        self.signs = canvas.blank()
        self.kind = "opacity"  # of the regions
        self.air: Picture | None = None  # what a pneumothorax takes away

    def typical(self) -> list[Picture]:
        regions = []
        for side in (0, 1):
            regions.append(self._patches(side, low=True, peripheral=True))
            if self.rng.random() < 0.2:
                upper = self._patches(side, low=False, peripheral=True)
                if not self._touches(regions, upper):
                    regions.append(upper)
        return regions

    def indeterminate(self) -> list[Picture]:
        if self.rng.random() < 0.35:
            return [self._perihilar(side) for side in (0, 1)]
        side = int(self.rng.integers(2))
        return [self._patches(side, low=bool(self.rng.random() < 0.5), peripheral=bool(self.rng.random() < 0.4))]

    def atypical(self) -> list[Picture]:
        side = int(self.rng.integers(2))
        kind = self.rng.choice(["effusion", "pneumothorax", "lobar", "nodules"], p=[0.35, 0.15, 0.25, 0.25])
        self.kind = {"lobar": "consolidation", "nodules": "nodule"}.get(kind, "effusion")
        if kind == "effusion":
            both = self.rng.random() < 0.3
            return [self._effusion(each) for each in ((0, 1) if both else (side,))]
        if kind == "pneumothorax":
            self._pneumothorax(side)
            return [self._effusion(side, flat=True)]
        if kind == "lobar":
            return [self._lobe(side)]
        return self._nodules()

    def _touches(self, regions: list[Picture], new: Picture) -> bool:
        alone = sum(len(bounds(region)) for region in [*regions, new])
        return len(bounds(np.maximum.reduce([*regions, new]))) < alone

    def _finish(self, side: int, support: Picture, density: float, texture: float) -> Picture:
        """Cut a 0..1 support to the lung, keep its largest piece, give it density and texture."""
        support = support * self.thorax.lungs[side]
        count, labels, stats, _ = cv2.connectedComponentsWithStats((support > 0.02).astype(np.uint8))
        if count > 1:
            support = support * (labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA])))
        grain = self.canvas.noise(self.rng, 0.16) + 0.7 * self.canvas.noise(self.rng, 0.05)
        return support * density * np.clip(1 + texture * grain, 0.55, 1.6)

    def _large_enough(self, region: Picture) -> bool:
        boxes = bounds(region)
        sides = boxes[:, 2:] - boxes[:, :2]
        return len(boxes) == 1 and bool((sides >= _SMALLEST * self.canvas.width).all())

    def _place(self, side: int, x: float, y: float) -> tuple[float, float]:
        """Body coordinates of a spot in a lung: x 0..1 from the inner to the outer edge, y 0..1 downwards."""
        outline = self.thorax.outlines[side]
        top, bottom = float(outline[:, 1].min()), float(outline[:, 1].max())
        row = top + y * (bottom - top)
        near = outline[np.abs(outline[:, 1] - row) < 0.08, 0]
        edge = float(np.abs(near).max()) if len(near) else 0.9
        inner = min(0.3, edge - 0.1)
        return (-1 if side == 0 else 1) * (inner + x * (edge - inner)), row

    def _patches(self, side: int, low: bool, peripheral: bool) -> Picture:
        """Ground glass or consolidation: overlapping ragged patches."""
        region = self.canvas.blank()
        for _ in range(_TRIES):
            x = self.rng.uniform(0.62, 0.85) if peripheral else self.rng.uniform(0.2, 0.5)
            y = self.rng.uniform(0.56, 0.72) if low else self.rng.uniform(0.2, 0.36)
            reach = self.rng.uniform(0.24, 0.40) * (1 if low else 0.72)
            field = np.full_like(region, -9)
            for _ in range(int(self.rng.integers(3, 6))):
                cx, cy = self._place(side, x + self.rng.normal(0, 0.08), y + self.rng.normal(0, 0.08))
                rx, ry = reach * self.rng.uniform(0.7, 0.95), reach * self.rng.uniform(0.8, 1.15)
                apart = np.hypot((self.canvas.x - cx) / rx, (self.canvas.y - cy) / ry)
                field = np.maximum(field, 1 - apart)
            field += 0.09 * self.canvas.noise(self.rng, 0.16) + 0.02 * self.canvas.noise(self.rng, 0.04)
            solid = self.rng.random() < 0.5
            density = self.rng.uniform(0.46, 0.56) if solid else self.rng.uniform(0.36, 0.44)
            region = self._finish(side, ramp(field, 0.0, 0.20), density, 0.09)
            if self._large_enough(region):
                break
        return region

    def _perihilar(self, side: int) -> Picture:
        """A cloud around a hilum."""
        region = self.canvas.blank()
        sign = -1 if side == 0 else 1
        for _ in range(_TRIES):
            cx, cy = sign * self.rng.uniform(0.42, 0.5), self.rng.uniform(-0.12, 0.1)
            rx, ry = self.rng.uniform(0.28, 0.38), self.rng.uniform(0.34, 0.5)
            field = 1 - np.hypot((self.canvas.x - cx) / rx, (self.canvas.y - cy) / ry)
            field = field + 0.09 * self.canvas.noise(self.rng, 0.14)
            region = self._finish(side, ramp(field, 0.0, 0.20), self.rng.uniform(0.46, 0.58), 0.07)
            if self._large_enough(region):
                break
        return region

    def _effusion(self, side: int, flat: bool = False) -> Picture:
        """Fluid that blunts the angle; its surface climbs the chest wall unless air lies on it."""
        region = self.canvas.blank()
        for _ in range(_TRIES):
            outline = self.thorax.outlines[side]
            level = float(outline[:, 1].max()) - self.rng.uniform(0.48, 0.80)
            climb = 0 if flat else self.rng.uniform(0.14, 0.26)
            near_wall = np.clip((np.abs(self.canvas.x) - 0.45) / 0.5, 0, 1)
            surface = level - climb * near_wall**2 + (0 if flat else 0.03) * (1 - near_wall)
            support = ramp(self.canvas.y - surface, -0.015, 0.03 if flat else 0.07)
            region = self._finish(side, support, self.rng.uniform(0.56, 0.64), 0.03)
            if self._large_enough(region):
                break
        return region

    def _lobe(self, side: int) -> Picture:
        """A whole lobe, sharp along its fissure."""
        region = self.canvas.blank()
        for _ in range(_TRIES):
            fissure = self.rng.uniform(-0.25, -0.1) + 0.08 * np.abs(self.canvas.x)
            if self.rng.random() < 0.5:
                support = ramp(fissure - self.canvas.y, -0.012, 0.02)
            else:
                away = self.canvas.y - fissure - self.rng.uniform(0.25, 0.4)
                support = ramp(away, -0.012, 0.02)
            region = self._finish(side, support, self.rng.uniform(0.46, 0.58), 0.07)
            if self._large_enough(region):
                break
        return region

    def _nodules(self) -> list[Picture]:
        """One or two round masses that stay apart."""
        regions: list[Picture] = []
        wanted = int(self.rng.integers(1, 3))
        for _ in range(_TRIES):
            side = int(self.rng.integers(2))
            cx, cy = self._place(side, self.rng.uniform(0.35, 0.65), self.rng.uniform(0.2, 0.7))
            radius = self.rng.uniform(0.17, 0.26)
            apart = np.hypot(self.canvas.x - cx, self.canvas.y - cy) / radius
            wobble = 0.08 * self.canvas.noise(self.rng, 0.12)
            ball = 1 - apart + wobble
            support = 0.7 * ramp(ball, 0, 0.18) + 0.3 * ramp(ball, 0, 0.8)
            region = self._finish(side, support, self.rng.uniform(0.46, 0.56), 0.05)
            if self._large_enough(region) and not (regions and self._touches(regions, region)):
                regions.append(region)
            if len(regions) == wanted:
                break
        return regions

    def _pneumothorax(self, side: int) -> None:
        """Air between lung and chest wall: no vessels outside a fine pleural line."""
        lung = self.thorax.lungs[side]
        depth = self.canvas.depth(self.canvas.fill(self.thorax.outlines[side]))
        gap = self.rng.uniform(0.09, 0.16) + 0.10 * ramp(self.canvas.y, 0.0, -1.0)
        outer = ramp(np.abs(self.canvas.x), 0.25, 0.5)
        air = (1 - ramp(depth - gap, -0.01, 0.01)) * outer * lung
        line = np.exp(-(((depth - gap) / 0.008) ** 2)) * outer * lung
        self.air = 0.10 * air
        self.signs = self.signs - self.air + 0.11 * line
