"""Draws a thorax: how much tissue a frontal X-ray crosses at each pixel.

Everything is drawn in body coordinates (u, v): u runs from -1 at the patient's right side, on the left of
the picture, to 1; v from 0 at the shoulders to about 1.25 below the diaphragm. Thickness is in arbitrary
units: more is brighter.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]


@dataclass(frozen=True)
class Thorax:
    """One patient, drawn.

    ``thickness``, ``lungs``, ``u`` and ``v`` are (H, W) float32; ``lungs`` is 1 inside the visible lung
    fields; ``base`` holds, per side, the v of the diaphragm's dome.
    """

    thickness: Field
    lungs: Field
    u: Field
    v: Field
    base: dict[int, float] = field(default_factory=dict)


def draw_thorax(height: int, width: int, rng: np.random.Generator, female: bool) -> Thorax:
    """Draw a patient without findings.

    Args:
        height, width: of the picture, in pixels.
        rng: draws posture, build and the course of every structure.
        female: adds breast shadows.
    """
    u, v = _body_grid(height, width, rng)
    side = np.sign(u) + (u == 0)
    base = {-1: rng.uniform(0.80, 0.86), 1: rng.uniform(0.83, 0.89)}
    lungs, below = _lungs(u, v, side, base, rng)
    heart = _heart(u, v, rng)
    lungs = lungs * (1 - heart) * (1 - _smooth(0.13 - np.abs(u - 0.02), 0.025))
    body, inside = _body(u, v, rng)
    thickness = body - 0.56 * lungs * np.sqrt(np.clip(1 - (u / 1.05) ** 2, 0, 1))
    thickness += 0.14 * heart + 0.12 * _mediastinum(u, v, rng) + 0.10 * below * inside
    thickness += inside * (_spine(u, v) + _ribs(u, v, rng) + _clavicles(u, v, rng) + _scapulae(u, v, rng))
    thickness += lungs * _vessels(u, v, rng) - 0.10 * inside * _airways(u, v)
    if female:
        thickness += inside * _breasts(u, v, rng)
    if rng.random() < 0.6:  # air in the stomach, below the left dome
        x, y = rng.uniform(0.30, 0.45), base[1] + rng.uniform(0.09, 0.13)
        bubble = _smooth(1 - np.hypot((u - x) / rng.uniform(0.10, 0.18), (v - y) / 0.055), 0.25)
        thickness -= 0.20 * bubble * below
    return Thorax(thickness.astype(np.float32), lungs.astype(np.float32), u, v, base)


def noise(height: int, width: int, scale: float, rng: np.random.Generator) -> Field:
    """Smooth noise of unit variance whose features are about ``scale`` pixels wide."""
    rows, columns = (max(3, int(np.ceil(n / scale)) + 2) for n in (height, width))
    coarse = rng.standard_normal((rows, columns)).astype(np.float32)
    fine = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return fine / max(float(fine.std()), 1e-6)


def _smooth(distance: NDArray, softness: float) -> NDArray:
    """A step from 0 to 1 across distance 0, about ``softness`` wide."""
    return 1 / (1 + np.exp(np.clip(-4 * distance / softness, -40, 40)))


def _body_grid(height: int, width: int, rng: np.random.Generator) -> tuple[Field, Field]:
    """Body coordinates of every pixel: the patient stands a little off, turned and near or far."""
    angle, scale = np.deg2rad(rng.normal(0, 1.5)), rng.uniform(0.92, 1.06)
    x = (np.arange(width, dtype=np.float32) - width * (0.5 + rng.normal(0, 0.012))) / (0.5 * width)
    y = np.arange(height, dtype=np.float32) / height
    x, y = np.meshgrid(x, y)
    y = y * 1.12 + rng.uniform(-0.05, 0.0)
    u = (x * np.cos(angle) + (y - 0.6) * np.sin(angle)) / scale
    v = (-x * np.sin(angle) + (y - 0.6) * np.cos(angle)) / scale + 0.6
    bend = 0.02 * np.sin(3 * v + rng.uniform(0, 6))  # nobody is symmetric
    return (u + bend).astype(np.float32), v.astype(np.float32)


def _body(u: Field, v: Field, rng: np.random.Generator) -> tuple[Field, Field]:
    """Soft tissue and its silhouette: neck, shoulders, arms, trunk."""
    trunk = rng.uniform(0.90, 1.02)
    shoulder = np.clip((v - 0.015) / 0.14, 0, 1) ** 0.6
    half = 0.24 + (trunk + 0.12 - 0.24) * shoulder - 0.10 * np.clip((v - 0.25) / 0.5, 0, 1)
    depth = np.sqrt(np.clip(1 - (u / half) ** 2, 0, 1))
    inside = _smooth(half - np.abs(u), 0.02)
    axilla = _smooth(0.03 - np.abs(np.abs(u) - (half - 0.16)), 0.05) * _smooth(v - 0.32, 0.1)
    return (0.28 + 0.52 * depth - 0.06 * axilla) * inside, inside


def _lungs(u: Field, v: Field, side: NDArray, base: dict[int, float], rng: np.random.Generator) -> tuple[Field, Field]:
    """Lung fields with apices and costophrenic angles, and what lies below the diaphragm."""
    across = np.abs(u)
    outer = 0.80 * np.sqrt(np.clip(1 - ((v - 0.66) / 0.64) ** 2, 0, 1)) * rng.uniform(0.96, 1.04)
    apex = 0.075 + 0.9 * (across - 0.30) ** 2 + rng.uniform(-0.01, 0.02)
    dome = np.where(side < 0, base[-1], base[1]) - 0.02
    floor = dome + 0.75 * np.clip(across - 0.34, 0, None) ** 2 + 0.25 * np.clip(0.34 - across, 0, None) ** 2
    inner = 0.13 + 0.03 * np.cos(5 * (v - 0.4))
    mask = _smooth(outer - across, 0.02) * _smooth(across - inner, 0.03)
    mask *= _smooth(v - apex, 0.02) * _smooth(floor - v, 0.014)
    return mask, _smooth(v - floor, 0.014)


def _heart(u: Field, v: Field, rng: np.random.Generator) -> Field:
    """The heart's shadow: apex to the patient's left, right atrium a little over the spine."""
    size = rng.uniform(0.92, 1.12)
    x, y = u - 0.13, v - 0.69
    tilt = np.deg2rad(32)
    along, across = x * np.cos(tilt) + y * np.sin(tilt), -x * np.sin(tilt) + y * np.cos(tilt)
    left = 1 - np.hypot(along / (0.33 * size), across / (0.19 * size))
    right = 1 - np.hypot((u + 0.06) / (0.16 * size), (v - 0.67) / 0.17)
    return np.maximum(_smooth(left, 0.10), _smooth(right, 0.12))


def _mediastinum(u: Field, v: Field, rng: np.random.Generator) -> Field:
    """The band between the lungs with the aortic knob."""
    band = _smooth(0.125 - np.abs(u - 0.015), 0.04) * _smooth(v - 0.05, 0.05)
    knob = _smooth(1 - np.hypot((u - 0.13) / 0.085, (v - rng.uniform(0.29, 0.33)) / 0.06), 0.25)
    return np.maximum(band, knob)


def _spine(u: Field, v: Field) -> Field:
    """Vertebral bodies with discs between them and pedicles."""
    column = _smooth(0.075 - np.abs(u), 0.02)
    discs = 0.5 + 0.5 * np.cos(2 * np.pi * v / 0.072)
    pedicles = np.exp(-(((np.abs(u) - 0.045) / 0.012) ** 2) - ((discs - 0.1) / 0.35) ** 2)
    return column * (0.07 + 0.05 * discs**2) + 0.04 * pedicles


def _ribs(u: Field, v: Field, rng: np.random.Generator) -> Field:
    """Ten pairs of ribs: clear posterior arcs, faint anterior ones."""
    across = np.abs(u)
    reach = np.clip(across / 0.80, 0, 1.15)
    spacing, first = rng.uniform(0.076, 0.084), rng.uniform(0.10, 0.13)
    total = np.zeros_like(u)
    for index in range(10):
        start = first + index * spacing
        width = 0.017 + 0.0006 * index
        cage = 0.80 * np.sqrt(np.clip(1 - ((start + 0.05 - 0.66) / 0.70) ** 2, 0.05, 1))
        posterior = start - 0.055 * np.sin(np.pi * np.clip(reach * 0.75, 0, 1)) + 0.115 * reach**2.2
        total += 0.085 * _tube(v - posterior, width) * _smooth(cage - across, 0.03) * _smooth(across - 0.06, 0.03)
        if index < 8:
            anterior = start + 0.075 + 0.23 * np.clip(1 - reach, 0, None) ** 1.2 + 0.02 * reach
            visible = _smooth(cage - across, 0.03) * _smooth(across - 0.26, 0.12)
            total += 0.042 * _tube(v - anterior, width * 1.15) * visible
    return total


def _tube(offset: NDArray, half_width: float) -> NDArray:
    """What X-rays cross of a hollow bone: bright cortical edges around a fainter middle."""
    reach = np.abs(offset) / half_width
    shell = np.sqrt(np.clip(1 - reach**2, 0, 1))
    marrow = np.sqrt(np.clip(0.72 - reach**2, 0, 1))
    return 1.6 * shell - 0.95 * marrow


def _clavicles(u: Field, v: Field, rng: np.random.Generator) -> Field:
    across = np.abs(u)
    height = 0.135 + rng.uniform(-0.02, 0.02) - 0.11 * (across / 0.75) + 0.025 * np.sin(across * 8)
    visible = _smooth(0.80 - across, 0.03) * _smooth(across - 0.05, 0.02)
    return 0.17 * _tube(v - height, 0.022) * visible


def _scapulae(u: Field, v: Field, rng: np.random.Generator) -> Field:
    """The blades' inner borders and the heads of the humeri at the edge of the picture."""
    across = np.abs(u)
    border = 0.66 + 0.16 * np.clip((v - 0.15) / 0.4, 0, 1) + rng.uniform(-0.02, 0.03)
    blade = _smooth(across - border, 0.02) * _smooth(0.52 - v, 0.06) * _smooth(v - 0.12, 0.04)
    head = _smooth(1 - np.hypot((across - 0.96) / 0.11, (v - 0.13) / 0.075), 0.12)
    return 0.045 * blade + 0.10 * head


def _airways(u: Field, v: Field) -> Field:
    """The trachea and its two main bronchi, dark with air."""
    trachea = _smooth(0.028 - np.abs(u - 0.01), 0.015) * _smooth(0.36 - v, 0.02) * _smooth(v + 0.1, 0.05)
    course = 0.36 + 0.45 * np.abs(u - 0.01)
    bronchi = _smooth(0.016 - np.abs(v - course), 0.014) * _smooth(0.15 - np.abs(u), 0.03) * _smooth(v - 0.35, 0.02)
    return np.maximum(trachea, 0.8 * bronchi)


def _vessels(u: Field, v: Field, rng: np.random.Generator) -> Field:
    """Pulmonary vessels that branch and taper away from the hila."""
    height, width = u.shape
    canvas = np.zeros((height, width), np.float32)
    shape = np.array([width / 2, height / 1.12])

    def branch(point: NDArray, angle: float, thick: float, length: float, depth: int) -> None:
        for _ in range(4):
            angle += rng.normal(0, 0.14)
            end = point + length / 4 * np.array([np.cos(angle), np.sin(angle)])
            a, b = ((p * shape + [width / 2, 0.04 * height]) for p in (point, end))
            stroke = np.zeros_like(canvas)
            cv2.line(
                stroke,
                *(tuple(int(c * 8) for c in p) for p in (a, b)),
                1.0,
                max(1, round(thick)),
                cv2.LINE_AA,
                3,
            )
            np.maximum(canvas, stroke * min(1.0, thick / 5 + 0.25), out=canvas)
            point, thick = end, thick * 0.9
        if depth:
            for turn in (rng.uniform(0.25, 0.6), -rng.uniform(0.25, 0.6)):
                branch(point, angle + turn, thick * 0.7, length * rng.uniform(0.65, 0.9), depth - 1)

    unit = width / 512
    for side in (-1, 1):
        hilum = np.array([side * 0.17, 0.46 + (0.02 if side < 0 else 0.0)])
        for direction in (-1.15, -0.6, -0.1, 0.4, 0.85, 1.25):
            angle = direction if side > 0 else np.pi - direction
            branch(hilum, angle + rng.normal(0, 0.1), 6.5 * unit, rng.uniform(0.16, 0.24), 2)
        glow = np.exp(-(((u - hilum[0]) / 0.06) ** 2) - ((v - hilum[1]) / 0.08) ** 2)
        canvas = np.maximum(canvas, 0.9 * glow.astype(np.float32))
    return 0.13 * cv2.GaussianBlur(canvas, (0, 0), 1.1 * unit)


def _breasts(u: Field, v: Field, rng: np.random.Generator) -> Field:
    size, height = rng.uniform(0.8, 1.1), rng.uniform(0.72, 0.80)
    fold = 1 - np.hypot((np.abs(u) - 0.47) / (0.36 * size), (v - height) / (0.22 * size))
    return 0.075 * _smooth(fold, 0.10) * np.clip((v - height + 0.25) / 0.3, 0, 1)
