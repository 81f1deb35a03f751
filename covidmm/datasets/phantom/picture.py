"""From tissue thickness to the grey values of a detector: contrast, blur, noise, and what people leave on it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from covidmm.datasets.phantom.anatomy import Field, noise


def expose(thickness: Field, rng: np.random.Generator) -> NDArray[np.float32]:
    """Turn thickness into (H, W) grey values in 0..1, air black.

    The values are the logarithm of the transmitted dose through a display curve, with quantum noise that
    grows where little dose arrives, and correlated noise of the detector.
    """
    height, width = thickness.shape
    sharp = cv2.GaussianBlur(thickness, (0, 0), 0.7)
    scatter = cv2.GaussianBlur(thickness, (0, 0), width / 12)
    grey = 0.88 * sharp + 0.12 * scatter
    quantum = rng.standard_normal(grey.shape).astype(np.float32) * (0.004 + 0.012 * np.clip(grey, 0, 1.2))
    grey = grey + quantum + 0.006 * noise(height, width, 3, rng) + 0.012 * noise(height, width, width / 3, rng)
    middle, slope = rng.uniform(0.54, 0.62), rng.uniform(4.0, 5.0)
    curve = 1 / (1 + np.exp(-slope * (grey - middle)))
    low, high = 1 / (1 + np.exp(slope * middle)), 1 / (1 + np.exp(-slope * (1.25 - middle)))
    return np.clip((curve - low) / (high - low), 0, 1).astype(np.float32)


def leave_marks(grey: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Burn in a side marker and, at times, ECG leads, a tube or the collimator's frame. Depends on no finding."""
    height, width = grey.shape
    ink = np.zeros((height, width), np.uint8)
    size = width / 512 * rng.uniform(0.9, 1.3)
    thick = max(1, round(2 * size))
    left_of_patient = rng.random() < 0.7
    place = (int(width * (0.86 if left_of_patient else 0.07)), int(height * rng.uniform(0.08, 0.14)))
    cv2.putText(ink, "L" if left_of_patient else "R", place, cv2.FONT_HERSHEY_SIMPLEX, size, 255, thick, cv2.LINE_AA)
    if rng.random() < 0.25:
        for _ in range(int(rng.integers(2, 5))):
            spot = int(width * rng.uniform(0.2, 0.8)), int(height * rng.uniform(0.2, 0.75))
            edge = int(width * rng.choice([0.02, 0.98])), int(height * rng.uniform(0.5, 0.95))
            cv2.circle(ink, spot, max(2, round(3.5 * size)), 240, cv2.FILLED, cv2.LINE_AA)
            cv2.line(ink, spot, edge, 215, 1, cv2.LINE_AA)
    if rng.random() < 0.15:
        drift = np.cumsum(rng.normal(0, 0.004, 24))
        course = [(int(width * (0.5 + drift[i])), int(height * (i / 24 * 0.42))) for i in range(24)]
        cv2.polylines(ink, [np.array(course, np.int32)], False, 225, thick, cv2.LINE_AA)
    marked = np.maximum(grey, ink.astype(np.float32) / 255)
    if rng.random() < 0.2:
        frame = (rng.uniform(0.005, 0.025, 4) * [height, height, width, width]).astype(int)
        marked[: frame[0]], marked[height - frame[1] :] = 0, 0
        marked[:, : frame[2]], marked[:, width - frame[3] :] = 0, 0
    return marked
