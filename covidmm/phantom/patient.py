"""The anatomy of a synthetic patient, which stays the same in all images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from covidmm.phantom.canvas import Points


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
        """A random adult."""
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
