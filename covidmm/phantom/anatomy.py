"""A synthetic chest: the attenuation that each part of the body adds.

Attenuation is in units of the logarithm that a digital detector records (0 = bare air). Nothing here is
measured from a patient; shapes and values were chosen by eye beside public radiographs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from covidmm.phantom.canvas import Canvas, Picture, Points, ramp, smooth
from covidmm.phantom.patient import Patient
from covidmm.phantom.skeleton import draw_bones
from covidmm.phantom.vessels import draw_vessels

# Control points of the lungs, x as seen for a lung on the right of the picture (the patient's left);
# 'dome' and 'angle' move with the patient.
_APEX_TO_BASE = [(0.42, -1.06), (0.66, -0.88), (0.84, -0.47), (0.95, 0.05), (0.995, 0.5)]
_MEDIAL = [(0.10, 0.25), (0.10, -0.5), (0.17, -0.87)]


@dataclass(frozen=True)
class Thorax:
    """One drawn chest."""

    attenuation: Picture
    lungs: tuple[Picture, Picture]  # 0..1: the lung that shows beside heart and mediastinum; picture's left, right
    outlines: tuple[Points, Points]  # the lungs' outlines, body coordinates
    heart: Points  # the part of the mediastinum's outline that is the heart's, body coordinates


def draw_thorax(canvas: Canvas, patient: Patient, rng: np.random.Generator) -> Thorax:
    """Draw a healthy chest.

    Args:
        canvas: where to draw.
        patient: whose chest.
        rng: draws what differs between two images of one patient.
    """
    outlines = (lung_outline(patient, -1), lung_outline(patient, 1))
    fields = [canvas.fill(outline) for outline in outlines]
    centre = _mediastinum(patient)
    middle = canvas.fill(centre)
    soft_middle = canvas.blur(middle, 0.012)

    picture = _body(canvas, patient)
    inside = canvas.blur(np.maximum(*fields), 0.012)
    air = np.zeros_like(picture)
    for field in fields:
        depth = canvas.depth(field)
        air += canvas.blur(field, 0.01) * (0.54 + 0.24 * (1 - np.exp(-depth / 0.16)))
    # Some lung lies behind and before the heart; it thins out towards the heart's middle.
    picture -= air * (1 - soft_middle * (0.72 + 0.28 * (1 - np.exp(-canvas.depth(middle) / 0.12))))
    picture += _abdomen(canvas, patient, inside)
    picture += draw_bones(canvas, patient) * ramp(canvas.depth(canvas.fill(*_silhouette(patient))), 0, 0.02)
    picture += draw_vessels(canvas, rng) * (1 - 0.8 * soft_middle) * (0.25 + 0.75 * inside)
    picture += _airways(canvas) + _breasts(canvas, patient)
    picture += inside * 0.012 * canvas.noise(rng, 0.03)
    lungs = tuple(canvas.blur(field, 0.008) * (1 - soft_middle) for field in fields)
    return Thorax(np.maximum(picture, 0), lungs, outlines, _heart(patient, centre))  # type: ignore[arg-type]


def lung_outline(patient: Patient, side: int) -> Points:
    """Closed outline of a lung, heart ignored.

    ``side`` is -1 for the left of the picture (the patient's right) and 1 for the right.
    """
    dome = patient.domes[0 if side < 0 else 1]
    base = [(0.985, dome + 0.36), (0.93, dome + 0.26), (0.80, dome + 0.08), (0.55, dome), (0.30, dome + 0.01)]
    points = np.array([*_APEX_TO_BASE, *base, (0.11, dome - 0.01), *_MEDIAL], np.float32)
    points += patient.jitter[: len(points)] * (1 if side < 0 else -0.8)
    above = points[:, 1] < 0
    points[above, 1] *= patient.shape
    points[:, 0] *= side
    return smooth(points, closed=True)


def _mediastinum(patient: Patient) -> Points:
    """Outline of vessels, heart and spine's soft tissue: what hides the lungs' inner parts."""
    wide = patient.heart
    low = max(patient.domes) + 0.25
    right = [(-0.16, -1.5), (-0.17, -0.95), (-0.20, -0.6), (-0.19, -0.2), (-0.24 * wide, 0.05)]
    right += [(-0.34 * wide, 0.35), (-0.30 * wide, patient.domes[0] + 0.03), (-0.26, low)]
    left = [(0.45, low), (0.66 * wide, patient.domes[1] + 0.06), (0.66 * wide, 0.5), (0.52 * wide, 0.22)]
    left += [(0.33 * wide, -0.05), (0.26, -0.18), (0.22, -0.27), (0.29, -0.40), (0.27, -0.52), (0.19, -0.66)]
    left += [(0.17, -0.95), (0.16, -1.5)]
    points = np.array(right + left, np.float32)
    points[2:-2] += patient.jitter[20 : 20 + len(points) - 4]
    return smooth(points, closed=True)


def _heart(patient: Patient, mediastinum: Points) -> Points:
    """The points of the mediastinum's outline from the waist, under the great vessels, down to the left dome."""
    y = mediastinum[:, 1]
    return mediastinum[(y > -0.18) & (y < patient.domes[1] + 0.08)]


def _silhouette(patient: Patient) -> list[Points]:
    """Outlines of trunk and arms."""
    fat = patient.fat
    half = [(0.27, -2.6), (0.29, -1.75), (0.36, -1.42), (0.75, -1.24), (1.15, -1.13), (1.42 + fat, -0.95)]
    half += [(1.50 + fat, -0.6), (1.20 + fat, -0.3), (1.10 + fat, 0.2), (1.10 + fat, 0.8), (1.14 + fat, 1.4)]
    half += [(1.2 + fat, 3.0)]
    trunk = np.array(half + [(-x, y) for x, y in reversed(half)], np.float32)
    out = patient.arms
    arm = [(1.15, -1.0), (1.45 + fat, -0.92), (1.62 + fat + out * 0.3, -0.5), (1.72 + fat + out, 0.6)]
    arm += [(1.8 + fat + 1.6 * out, 3.0), (1.36 + fat + 1.2 * out, 3.0), (1.30 + fat + out, 0.6)]
    arm += [(1.22 + fat + 0.3 * out, -0.25)]
    arms = [np.array([(side * x, y) for x, y in arm], np.float32) for side in (-1, 1)]
    return [smooth(trunk, closed=True), *(smooth(each, closed=True) for each in arms)]


def _body(canvas: Canvas, patient: Patient) -> Picture:
    """Skin, fat and muscle: thick in the middle, thin at the edges."""
    trunk, *arms = _silhouette(patient)
    thickness = canvas.depth(canvas.fill(trunk))
    body = 0.52 * (1 - np.exp(-thickness / 0.10)) + 0.42 * (1 - np.exp(-thickness / 0.45))
    limbs = canvas.depth(canvas.fill(*arms))
    body = np.maximum(body, 0.62 * (1 - np.exp(-limbs / 0.10)))
    neck = np.exp(-((canvas.x / 0.45) ** 2)) * ramp(canvas.y, -0.7, -1.4)
    return canvas.blur(body, 0.012) * (1 + patient.fat) + 0.05 * neck


def _abdomen(canvas: Canvas, patient: Patient, inside: Picture) -> Picture:
    """What lies under the domes is thick and dense; under the left one often a bubble of air."""
    low = ramp(canvas.y, 0.2, 1.1) * ramp(-np.abs(canvas.x), -1.15 - patient.fat, -0.75)
    dense = 0.30 * low * (1 - inside)
    if patient.bubble:
        x, y = 0.62 + patient.jitter[60, 0] * 4, patient.domes[1] + 0.22
        ring = [(x - 0.24, y + 0.05), (x - 0.12, y - 0.08), (x + 0.08, y - 0.11), (x + 0.22, y - 0.02)]
        bubble = canvas.fill(smooth([*ring, (x + 0.17, y + 0.12), (x - 0.08, y + 0.14)], closed=True))
        dense -= 0.34 * canvas.blur(bubble, 0.014) * (1 - np.exp(-canvas.depth(bubble) / 0.06))
    return dense


def _airways(canvas: Canvas) -> Picture:
    """The air in the windpipe and the main bronchi, negative."""
    trachea = smooth([(0.0, -1.9), (0.0, -1.1), (0.015, -0.7), (0.03, -0.36)], closed=False)
    bronchi = [
        smooth([(0.03, -0.38), (-0.10, -0.24), (-0.21, -0.12)], closed=False),
        smooth([(0.03, -0.38), (0.14, -0.27), (0.27, -0.19)], closed=False),
    ]
    pipe = np.sqrt(np.clip(1 - (canvas.distance([trachea]) / 0.062) ** 2, 0, 1))
    branch = np.sqrt(np.clip(1 - (canvas.distance(bronchi) / 0.042) ** 2, 0, 1))
    return -canvas.blur(np.maximum(0.30 * pipe * ramp(canvas.y, -1.75, -1.3), 0.16 * branch), 0.012)


def _breasts(canvas: Canvas, patient: Patient) -> Picture:
    """Two hanging half-moons, thickest and sharpest at their lower edge."""
    if not patient.breast:
        return canvas.blank()
    shapes = []
    for side in (-1, 1):
        ring = [
            (0.22, 0.1),
            (0.60, -0.15),
            (1.0, 0.05),
            (1.12, 0.45),
            (0.98, 0.78),
            (0.62, 0.92),
            (0.30, 0.72),
        ]
        points = np.array(ring, np.float32) + 2.5 * patient.jitter[50 : 50 + len(ring)]
        points[:, 1] += 1.2 * (patient.breast - 0.15)
        shapes.append(smooth(points * [side, 1], closed=True))
    mask = canvas.fill(*shapes)
    thick = 1 - np.exp(-canvas.depth(mask) / 0.12)
    return patient.breast * canvas.blur(mask, 0.012) * thick * ramp(canvas.y, -0.25, 0.65)
