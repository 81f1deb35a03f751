"""Places opacities by study class, as the SIIM criteria (Litmanovich et al., 2020) describe the appearances."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from covidmm.datasets.phantom.anatomy import Field, Thorax, noise

#: A pixel belongs to an opacity where its thickness differs by more than this from the healthy thorax.
VISIBLE = 0.035


@dataclass(frozen=True)
class Opacity:
    """One finding: what it adds to the thickness, (H, W) float32, and its box x1 y1 x2 y2 in pixels.

    The box is the tight bound of the pixels where ``|added|`` is greater than :data:`VISIBLE`; x2 and y2 are
    one past the last such pixel.
    """

    added: Field
    box: tuple[int, int, int, int]


def place_opacities(study_class: str, thorax: Thorax, rng: np.random.Generator) -> list[Opacity]:
    """Draw the findings of one image.

    Args:
        study_class: ``negative`` (none); ``typical`` (both lungs, peripheral, lower zones);
            ``indeterminate`` (one lung, or central); ``atypical`` (effusion, pneumothorax, lobar or nodular).
    """
    if study_class == "negative":
        return []
    if study_class == "typical":
        fields = [
            _patches(thorax, side, rng, across=(0.42, 0.58), along=(0.52, 0.72), count=int(rng.integers(1, 3)))
            for side in (-1, 1)
        ]
    elif study_class == "indeterminate":
        if rng.random() < 0.5:
            side = int(rng.choice([-1, 1]))
            fields = [_patches(thorax, side, rng, across=(0.34, 0.52), along=(0.30, 0.66), count=1)]
        else:
            fields = [_patches(thorax, side, rng, across=(0.24, 0.30), along=(0.44, 0.54), count=1) for side in (-1, 1)]
    elif study_class == "atypical":
        kinds: list[Callable[[Thorax, int, np.random.Generator], Field]] = [
            _effusion,
            _pneumothorax,
            _lobar,
            _nodule,
        ]
        kind = kinds[int(rng.choice(4, p=[0.3, 0.1, 0.3, 0.3]))]
        fields = [kind(thorax, int(rng.choice([-1, 1])), rng)]
    else:
        raise ValueError(f"unknown study class '{study_class}'")
    found = [_bounded(field) for field in fields]
    return [opacity for opacity in found if opacity is not None]


def _bounded(added: Field) -> Opacity | None:
    """Cut an opacity to its visible part and bound it, or None where nothing is visible."""
    visible = np.abs(added) > VISIBLE
    if not visible.any():
        return None
    rows, columns = np.flatnonzero(visible.any(1)), np.flatnonzero(visible.any(0))
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    return Opacity(np.where(visible, added, 0).astype(np.float32), box)


def _step(distance: NDArray, softness: float) -> NDArray:
    return np.clip(0.5 + distance / softness, 0, 1)


def _side(thorax: Thorax, side: int) -> Field:
    return thorax.lungs * (thorax.u * side > 0)


def _patches(
    thorax: Thorax,
    side: int,
    rng: np.random.Generator,
    across: tuple[float, float],
    along: tuple[float, float],
    count: int,
) -> Field:
    """Ground glass to consolidation in one lung: irregular patches that touch, so that they are one opacity."""
    height, width = thorax.u.shape
    x, y = side * rng.uniform(*across), rng.uniform(*along)
    ragged = 0.16 * noise(height, width, width / 9, rng) + 0.05 * noise(height, width, width / 25, rng)
    patch = np.zeros_like(thorax.u)
    for _ in range(count):
        radius_x, radius_y = rng.uniform(0.13, 0.20), rng.uniform(0.11, 0.18)
        reach = np.hypot((thorax.u - x) / radius_x, (thorax.v - y) / radius_y) + ragged
        patch = np.maximum(patch, _step(1 - reach, 0.30))
        x, y = x + side * rng.uniform(-0.02, 0.06), y + rng.choice([-1, 1]) * rng.uniform(0.10, 0.14)
    texture = 1 + 0.12 * noise(height, width, width / 60, rng)
    return rng.uniform(0.20, 0.30) * patch * texture * _side(thorax, side)


def _effusion(thorax: Thorax, side: int, rng: np.random.Generator) -> Field:
    """Fluid that fills the costophrenic angle and rises along the chest wall (the meniscus)."""
    level = thorax.base[side] - rng.uniform(0.10, 0.22)
    across = np.abs(thorax.u)
    meniscus = level - 0.55 * np.clip(across - 0.42, 0, None) ** 1.5 + 0.12 * np.clip(0.42 - across, 0, None)
    return rng.uniform(0.30, 0.38) * _step(thorax.v - meniscus, 0.03) * _side(thorax, side)


def _pneumothorax(thorax: Thorax, side: int, rng: np.random.Generator) -> Field:
    """Air outside the lung: a dark crescent at apex and wall, the pleural line, a denser lung."""
    shrink = rng.uniform(0.70, 0.80)
    x, y = side * 0.36, 0.60
    reach = np.hypot((thorax.u - x) / (0.36 * shrink), (thorax.v - y) / (0.56 * shrink))
    outside = _step(reach - 1, 0.05)
    line = np.exp(-(((reach - 1) / 0.018) ** 2))
    upper = _step(0.62 - thorax.v, 0.10)
    return (0.11 * line - 0.10 * outside) * upper * _side(thorax, side)


def _lobar(thorax: Thorax, side: int, rng: np.random.Generator) -> Field:
    """Consolidation of a lobe, sharply bounded by a fissure."""
    height, width = thorax.u.shape
    fissure = rng.uniform(0.36, 0.46) + 0.10 * np.abs(thorax.u)
    upper = rng.random() < 0.6
    lobe = _step(fissure - thorax.v, 0.02) if upper else _step(thorax.v - fissure - 0.16, 0.03)
    texture = 1 + 0.08 * noise(height, width, width / 50, rng)
    return rng.uniform(0.24, 0.32) * lobe * texture * _side(thorax, side)


def _nodule(thorax: Thorax, side: int, rng: np.random.Generator) -> Field:
    """A round mass."""
    radius = rng.uniform(0.085, 0.13)
    x, y = side * rng.uniform(0.32, 0.52), rng.uniform(0.32, 0.68)
    # u spans half the width of the picture, v about all of its height
    reach = np.hypot((thorax.u - x) / radius, (thorax.v - y) / (radius * 0.62))
    return rng.uniform(0.26, 0.34) * _step(1 - reach, 0.18) * _side(thorax, side)
