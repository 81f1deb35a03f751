"""A synthetic chest: who the patient is, and the attenuation that each part of the body adds.

Attenuation is in units of the logarithm that a digital detector records (0 = bare air). Nothing here is
measured from a patient; shapes and values were chosen by eye beside public radiographs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from covidmm.datasets.phantom.canvas import Canvas, Picture, Points, ramp, smooth

# Control points of the lungs, x as seen for a lung on the right of the picture (the patient's left);
# 'dome' and 'angle' move with the patient.
_APEX_TO_BASE = [(0.42, -1.06), (0.66, -0.88), (0.84, -0.47), (0.95, 0.05), (0.995, 0.5)]
_MEDIAL = [(0.10, 0.25), (0.10, -0.5), (0.17, -0.87)]


@dataclass(frozen=True)
class Patient:
    """What stays the same in every image of one patient. Lengths are in body units."""

    sex: str
    age: int
    view: str
    shape: float  # lung height over the usual
    fat: float  # thickness of what lies over the ribs
    heart: float  # heart width over the usual
    domes: tuple[float, float]  # y of the diaphragm's top, patient's right and left
    rib_drop: float  # how steeply ribs fall from the spine to the front
    bone: float  # density of bones over the usual
    breast: float
    arms: float  # how far the arms stand off
    bubble: bool
    devices: bool
    jitter: Points  # (64, 2) small shifts of control points

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Patient:
        """A random grown-up."""
        sex = "F" if rng.random() < 0.44 else "M"
        view = "AP" if rng.random() < 0.45 else "PA"
        right = float(rng.uniform(0.50, 0.66))
        return cls(
            sex=sex,
            age=int(np.clip(rng.normal(54, 17), 18, 92)),
            view=view,
            shape=float(rng.uniform(0.93, 1.07)),
            fat=float(rng.uniform(0.05, 0.17)),
            heart=float(rng.uniform(0.9, 1.1) + (0.1 if view == "AP" else 0)),
            domes=(right, right + float(rng.uniform(0.04, 0.12))),
            rib_drop=float(rng.uniform(0.78, 1.02)),
            bone=float(rng.uniform(0.8, 1.2)),
            breast=float(rng.uniform(0.10, 0.26)) if sex == "F" else 0.0,
            arms=float(rng.uniform(0.05, 0.35)),
            bubble=bool(rng.random() < 0.6),
            devices=bool(rng.random() < (0.55 if view == "AP" else 0.1)),
            jitter=rng.normal(0, 0.012, (64, 2)).astype(np.float32),
        )


@dataclass(frozen=True)
class Thorax:
    """One drawn chest."""

    attenuation: Picture
    lungs: tuple[
        Picture, Picture
    ]  # 0..1: the lung that shows beside heart and mediastinum; picture's left, right
    outlines: tuple[Points, Points]  # the lungs' outlines, body coordinates


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
        air += canvas.blur(field, 0.01) * (0.50 + 0.22 * (1 - np.exp(-depth / 0.16)))
    # Some lung lies behind and before the heart; it thins out towards the heart's middle.
    picture -= air * (1 - soft_middle * (0.72 + 0.28 * (1 - np.exp(-canvas.depth(middle) / 0.12))))
    picture += _abdomen(canvas, patient, inside)
    bones = _ribs(canvas, patient) + _shoulders(canvas, patient) + _spine(canvas, patient)
    picture += patient.bone * bones * ramp(canvas.depth(canvas.fill(*_silhouette(patient))), 0, 0.02)
    picture += _vessels(canvas, patient, rng) * (1 - 0.8 * soft_middle) * (0.25 + 0.75 * inside)
    picture += _airways(canvas) + _breasts(canvas, patient)
    picture += inside * 0.012 * canvas.noise(rng, 0.03)
    lungs = tuple(canvas.blur(field, 0.008) * (1 - soft_middle) for field in fields)
    return Thorax(np.maximum(picture, 0), lungs, outlines)  # type: ignore[arg-type]


def lung_outline(patient: Patient, side: int) -> Points:
    """Closed outline of a lung, heart ignored. ``side`` -1: left of the picture (patient's right), 1: right."""
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


def _ribs(canvas: Canvas, patient: Patient) -> Picture:
    """Ten pairs of ribs: tilted rings, steep and bright behind, flat and faint in front.

    A ring of half width w that falls by d from spine to sternum shows at x = w sin(a), y = d (1 - cos(a)) / 2.
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
    return 0.125 * behind_shadow + 0.075 * before


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
    bones = 0.17 * canvas.tubes(collar, 0.046, cortex=0.55) + 0.06 * canvas.blur(
        canvas.tubes(spurs, 0.05), 0.02
    )
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


def _vessels(canvas: Canvas, patient: Patient, rng: np.random.Generator) -> Picture:
    """Pulmonary vessels: trees that leave the hila and grow thin towards the pleura."""
    levels: list[list[Points]] = [[] for _ in range(6)]
    for side in (-1, 1):
        hilum = np.array([side * (0.24 if side < 0 else 0.30), -0.10 if side < 0 else -0.16])
        for heading in np.linspace(-1.25, 1.42, 9):
            heading += rng.normal(0, 0.08)
            start = hilum + rng.normal(0, 0.03, 2) + [0, 0.10 * heading]
            _branch(levels, start, heading, side, 0, rng)
    shadow = canvas.blank()
    for level, lines in enumerate(levels):
        drawn = canvas.strokes(lines, 0.025 * 0.72**level)
        shadow = np.maximum(shadow, 0.15 * 0.82**level * drawn)
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
    steps = [
        np.array([np.cos(heading + k * bend), np.sin(heading + k * bend)]) * length / 3 for k in range(3)
    ]
    line = start + np.vstack([[0, 0], np.cumsum(steps, axis=0)]) * [side, 1]
    levels[level].append(line.astype(np.float32))
    if level + 1 == len(levels):
        return
    for turn in (rng.uniform(0.12, 0.42), -rng.uniform(0.12, 0.42)):
        if level < 3 or rng.random() < 0.75:
            _branch(levels, line[-1], heading + bend + turn, side, level + 1, rng)
