"""Plans a synthetic study from seed and index, and renders its pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLosslessSV1, RLELossless

from covidmm.findings import STUDY_CLASSES
from covidmm.phantom.anatomy import draw_thorax
from covidmm.phantom.canvas import Canvas, Picture
from covidmm.phantom.exposure import Exposure
from covidmm.phantom.opacities import draw_opacities
from covidmm.phantom.patient import Patient

_Value = TypeVar("_Value")

SHARES = dict(zip(STUDY_CLASSES, (0.277, 0.471, 0.173, 0.078), strict=True))
"""Of the study classes in SIIM's training set."""

ENLARGED = 1.1
"""Width over the usual above which a heart is enlarged: more than 0.55 of the chest's. Chosen here."""

# Also as in SIIM's training set; rare depths and syntaxes are lifted so that a small set has them all.
_PHOTOMETRIC = {"MONOCHROME2": 0.73, "MONOCHROME1": 0.27}
_BITS = {12: 0.60, 15: 0.17, 8: 0.08, 14: 0.06, 16: 0.05, 10: 0.04}
_SYNTAX = {ExplicitVRLittleEndian: 0.76, JPEGLosslessSV1: 0.10, JPEG2000Lossless: 0.07, RLELossless: 0.07}
_MODALITY = {"DX": 0.51, "CR": 0.49}
_IMAGES = {1: 0.95, 2: 0.05}
_WINDOWS = {0: 0.70, 1: 0.25, 2: 0.05}
_INTERCEPT = {0: 0.92, -1024: 0.08}


@dataclass(frozen=True)
class Study:
    """A planned study; every value follows from ``seed`` and ``index``."""

    seed: int
    index: int
    study: str  # 12 hex digits, like every id here
    study_class: str
    patient_id: str
    patient: Patient
    shape: tuple[int, int]  # rows, columns
    series: tuple[str, ...]  # one per image
    images: tuple[str, ...]
    photometric: str
    bits: int
    syntax: UID
    modality: str
    windows: int
    intercept: int


@dataclass(frozen=True)
class Rendering:
    """A finished picture and the truth about it.

    Attributes:
        grey: (H, W) float32, 0..1, 0 = black = air.
        density: (H, W) float32, the attenuation that the opacities added.
        boxes: (N, 4) int64 x1 y1 x2 y2, pixels, x2 and y2 exclusive, around opacities of any kind.
        kinds: boxes of the same form by what they surround: one of :data:`covidmm.phantom.opacities.KINDS`, or
            ``cardiomegaly``. None where opacities were left out.
    """

    grey: Picture
    density: Picture
    boxes: NDArray[np.int64]
    kinds: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)


def plan_study(seed: int, index: int, size: tuple[int, int], shares: Mapping[str, float] = SHARES) -> Study:
    """Decide everything about study ``index`` but its pixels.

    Args:
        seed: of the set.
        index: of the study in the set; the first four studies show the four classes.
        size: least and greatest length of the longer side, pixels.
        shares: of the study classes.
    """
    rng = np.random.default_rng([seed, index, 0])
    if index < len(STUDY_CLASSES):
        study_class = STUDY_CLASSES[np.random.default_rng(seed).permutation(len(STUDY_CLASSES))[index]]
    else:
        study_class = _spread(seed, index, 2, shares)
    longer = int(rng.integers(size[0], size[1] + 1))
    ratio = rng.uniform(0.80, 0.96) if rng.random() < 0.45 else rng.uniform(0.98, 1.2)
    shape = (longer, round(longer * ratio)) if ratio < 1 else (round(longer / ratio), longer)
    syntax, bits = _spread(seed, index, 11, _SYNTAX), _spread(seed, index, 7, _BITS)
    if syntax == JPEGLosslessSV1 and bits == 8:  # gdcm cannot compress an odd number of bytes
        shape = (shape[0], shape[1] // 2 * 2)
    count = _spread(seed, index, 3, _IMAGES)
    return Study(
        seed=seed,
        index=index,
        study=_identifier(seed, index, "study"),
        study_class=study_class,
        patient_id=_identifier(seed, index, "patient"),
        patient=Patient.draw(rng),
        shape=shape,
        series=tuple(_identifier(seed, index, f"series {k}") for k in range(count)),
        images=tuple(_identifier(seed, index, f"image {k}") for k in range(count)),
        photometric=_spread(seed, index, 5, _PHOTOMETRIC),
        bits=bits,
        syntax=syntax,
        modality=_spread(seed, index, 13, _MODALITY),
        windows=_spread(seed, index, 17, _WINDOWS),
        intercept=_spread(seed, index, 19, _INTERCEPT),
    )


def render(study: Study, image: int, opacities: bool = True) -> Rendering:
    """Take one of a study's pictures.

    Args:
        study: the plan.
        image: which of its images, from 0.
        opacities: False leaves them out and everything else, noise included, as it is.
    """
    pose, body, disease, shot = (np.random.default_rng([study.seed, study.index, 1 + image, part]) for part in range(4))
    height, width = study.shape
    unit = min(width / 2.5, height / 2.45) * pose.uniform(0.94, 1.04)
    centre = (width / 2 + pose.normal(0, 0.02) * width, height * pose.uniform(0.48, 0.53))
    canvas = Canvas(height, width, unit, centre, float(np.clip(pose.normal(0, 2), -5, 5)))
    thorax = draw_thorax(canvas, study.patient, body)
    found = draw_opacities(canvas, thorax, study.study_class, disease)
    attenuation = thorax.attenuation + found.signs
    if opacities:
        attenuation = attenuation + found.density
    grey = Exposure(canvas, study.patient, shot).take(attenuation)
    if not opacities:
        return Rendering(grey, canvas.blank(), found.boxes[:0])
    kinds = {kind: boxes for kind, boxes in found.kinds.items() if len(boxes)}
    if study.patient.heart > ENLARGED:
        kinds["cardiomegaly"] = canvas.bounds(thorax.heart)[None]
    return Rendering(grey, found.density, found.boxes, kinds)


def _identifier(seed: int, index: int, what: str) -> str:
    return blake2b(f"covidmm phantom {seed} {index} {what}".encode(), digest_size=6).hexdigest()


def _spread(seed: int, index: int, prime: int, shares: Mapping[_Value, float]) -> _Value:
    """A value by its share. Multiples of an irrational number, not random ones: any run of studies has the mix."""
    start = np.random.default_rng([seed, prime]).random()
    place = (start + index * np.sqrt(prime)) % 1 * sum(shares.values())
    for value, share in shares.items():
        place -= share
        if place < 0:
            return value
    return value
