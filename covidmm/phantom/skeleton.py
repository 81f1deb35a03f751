"""The bones of a synthetic chest, as added attenuation."""

from __future__ import annotations

import numpy as np

from covidmm.phantom.canvas import Canvas, Picture, ramp, smooth
from covidmm.phantom.patient import Patient


def draw_bones(canvas: Canvas, patient: Patient) -> Picture:
    """Ribs, shoulder girdle and spine."""
    return patient.bone * (_ribs(canvas, patient) + _shoulders(canvas, patient) + _spine(canvas, patient))


def _ribs(canvas: Canvas, patient: Patient) -> Picture:
    """Ten pairs of ribs: tilted rings, steep and bright behind, flat and faint in front.

    A ring of half width w that falls by d from spine to sternum shows at x = w sin(a),
    y = d (1 - cos(a)) / 2.
    """
    back, front = [], []
    behind, ahead = np.linspace(0.03, np.pi / 2 + 0.12, 24), np.linspace(np.pi / 2, 2.45, 24)
    for number in range(10):
        top = (-1.20 + 0.190 * number) * (patient.shape if number < 6 else 1)
        width = (0.50, 0.74, 0.88, 0.965, 1.01, 1.035, 1.04, 1.04, 1.03, 1.0)[number]
        drop = patient.rib_drop * (0.62, 0.85, 0.97, 1.05, 1.1, 1.15, 1.2, 1.2, 1.2, 1.15)[number]
        for side in (-1, 1):
            shift = patient.jitter[(number * 2 + side) % 64]
            for angles, lines in ((behind, back), (ahead, front)):
                if lines is front and number > 6:
                    continue
                line = np.stack([side * width * np.sin(angles), top + drop * (1 - np.cos(angles)) / 2], 1)
                lines.append((line + 0.5 * shift).astype(np.float32))
    fade = 1 - 0.45 * ramp(np.abs(canvas.x), 1.0, 0.3)
    behind_shadow = canvas.tubes(back, 0.040, cortex=0.6)
    # Behind the spine and under the diaphragm they hardly show.
    behind_shadow *= ramp(np.abs(canvas.x), 0.04, 0.15) * (1 - 0.75 * ramp(canvas.y, 0.75, 1.1))
    before = canvas.tubes(front, 0.050, cortex=0.4) * fade
    return 0.105 * behind_shadow + 0.06 * before


def _shoulders(canvas: Canvas, patient: Patient) -> Picture:
    """Clavicles, shoulder blades and the upper arms' bones."""
    collar, blades, heads, shafts, spurs = [], [], [], [], []
    lift = float(patient.jitter[40, 1]) * 4 - (0.05 if patient.view == "AP" else 0)
    out = patient.arms
    for side in (-1, 1):
        line = [
            (0.11, -0.72),
            (0.26, -0.76),
            (0.50, -0.87 + lift),
            (0.80, -1.02 + lift),
            (1.22, -1.08 + lift),
        ]
        collar.append(smooth([(side * x, y) for x, y in line], closed=False))
        blade = [(0.90, -0.93), (0.98, -0.6), (1.02, -0.25), (1.10, -0.12), (1.17, -0.4), (1.24, -0.75)]
        if patient.view == "AP":
            blade = [(x - 0.12 if x < 1.15 else x, y) for x, y in blade]
        blades.append(smooth([(side * x, y) for x, y in [*blade, (1.2, -0.95)]], closed=True))
        head = [
            (1.20, -0.95),
            (1.27, -1.04),
            (1.40, -1.03),
            (1.49, -0.92),
            (1.47, -0.78),
            (1.45 + 0.1 * out, -0.55),
        ]
        head += [(1.35 + 0.1 * out, -0.55), (1.30, -0.76), (1.21, -0.84)]
        heads.append(smooth([(side * x, y) for x, y in head], closed=True))
        shaft = [
            (1.40 + 0.1 * out, -0.62),
            (1.45 + 0.3 * out, -0.2),
            (1.55 + out, 0.6),
            (1.62 + 1.4 * out, 3),
        ]
        shafts.append(smooth([(side * x, y) for x, y in shaft], closed=False))
        spur = [(0.88, -0.80), (1.10, -0.97), (1.30, -1.10), (1.36, -1.06)]
        spurs.append(smooth([(side * x, y) for x, y in spur], closed=False))
    plate = canvas.fill(*blades)
    rim = np.exp(-((canvas.distance(blades) / 0.014) ** 2)) * ramp(canvas.y, -1.1, -0.9)
    head = canvas.fill(*heads)
    cortex = np.exp(-((canvas.distance([np.vstack([each, each[:1]]) for each in heads]) / 0.012) ** 2))
    shaft = canvas.tubes(shafts, 0.062, cortex=0.6) * (1 - head)
    bones = 0.17 * canvas.tubes(collar, 0.046, cortex=0.55) + 0.06 * canvas.blur(canvas.tubes(spurs, 0.05), 0.02)
    bones += 0.045 * canvas.blur(plate, 0.01) + 0.05 * canvas.blur(rim, 0.004)
    bones += 0.13 * canvas.blur(head, 0.012) + 0.06 * canvas.blur(cortex, 0.004) + 0.16 * shaft
    return bones


def _spine(canvas: Canvas, patient: Patient) -> Picture:
    """Vertebral bodies between paler discs, pedicles and the spinous processes."""
    centre = 0.02 * np.sin(2.2 * canvas.y + 80 * patient.jitter[45, 0])
    across = canvas.x - centre
    half = 0.105 + 0.025 * ramp(canvas.y, -1.0, 1.2)
    height = 0.197
    phase = np.mod(canvas.y + 1.2, height) / height  # 0 and 1 in the middle of a disc
    edge = np.minimum(phase, 1 - phase)
    column = ramp(half - np.abs(across), -0.006, 0.012)
    waist = 0.02 * np.cos(2 * np.pi * phase)
    wall = np.exp(-(((np.abs(across) - half - waist * 0.5 + 0.012) / 0.012) ** 2))
    body = column * (0.10 + 0.08 * ramp(edge, 0.06, 0.13))
    plates = column * np.exp(-(((edge - 0.13) / 0.035) ** 2))
    pedicles = np.exp(-(((np.abs(across) - 0.068) / 0.018) ** 2) - ((phase - 0.40) / 0.13) ** 2)
    process = np.exp(-((across / 0.016) ** 2) - ((phase - 0.72) / 0.2) ** 2)
    visible = 0.9 - 0.5 * ramp(canvas.y, -0.7, 0.2)
    return visible * (body + 0.07 * plates + 0.06 * wall + 0.09 * pedicles + 0.09 * process)
