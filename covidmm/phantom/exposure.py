"""Turns attenuation into a radiograph: scatter, noise, contrast, burned-in markers."""

from __future__ import annotations

import cv2
import numpy as np

from covidmm.phantom.canvas import Canvas, Picture, ramp, smooth
from covidmm.phantom.patient import Patient


class Exposure:
    """Conditions of one exposure, which can be taken of a chest with and without its disease.

    Args:
        canvas: the picture's canvas.
        patient: gives view and devices.
        rng: draws the conditions once.
    """

    def __init__(self, canvas: Canvas, patient: Patient, rng: np.random.Generator) -> None:
        self._canvas, self._patient = canvas, patient
        self._dose = rng.uniform(1500, 6000)
        self._scatter = rng.uniform(0.03, 0.07)
        self._gain = rng.uniform(0.85, 1.12)
        self._toe = rng.uniform(0.95, 1.35)
        white = rng.standard_normal((canvas.height, canvas.width), dtype=np.float32)
        self._grain = cv2.GaussianBlur(white, (0, 0), 0.6) * 1.6 + 0.3 * canvas.noise(rng, 0.04)
        self._metal = self._devices(rng) if patient.devices else canvas.blank()
        self._letters = self._marker(rng)
        self._field = self._collimation(rng)

    def take(self, attenuation: Picture) -> Picture:
        """The radiograph of an attenuation map: (H, W) in 0..1, 0 = black."""
        seen = attenuation + self._metal
        light = np.exp(-2.2 * seen)
        light = (1 - self._scatter) * light + self._scatter * self._canvas.blur(light, 0.25)
        light += np.sqrt(light / self._dose) * self._grain
        logarithm = -np.log(np.maximum(light, 1e-4)) / 2.2
        grey = 1.02 * (1 - np.exp(-((np.maximum(logarithm, 0) * 1.35 * self._gain) ** self._toe)))
        grey = np.maximum(grey * self._field, self._letters)
        return np.clip(grey, 0, 1).astype(np.float32)

    def _collimation(self, rng: np.random.Generator) -> Picture:
        """1 where X-rays fell, 0 behind the shutters, which some images show."""
        field = np.ones((self._canvas.height, self._canvas.width), np.float32)
        if rng.random() < 0.35:
            height, width = field.shape
            left, top, right, bottom = rng.uniform(0, 0.035, 4) * [width, height, width, height]
            corners = np.array(
                [(left, top), (width - right, top), (width - right, height - bottom), (left, height - bottom)]
            )
            angle = np.deg2rad(rng.normal(0, 0.8))
            turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            middle = np.array([width, height]) / 2
            corners = (corners - middle) @ turn.T + middle
            mask = np.zeros(field.shape, np.uint8)
            cv2.fillPoly(mask, [np.round(corners * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
            field = 0.03 + 0.97 * cv2.GaussianBlur(mask.astype(np.float32) / 255, (0, 0), 0.8)
        return field

    def _marker(self, rng: np.random.Generator) -> Picture:
        """Lead letters: the side, sometimes the way the picture was taken."""
        height, width = self._canvas.height, self._canvas.width
        letters = np.zeros((height, width), np.uint8)
        scale = width / 420
        side = "L" if rng.random() < 0.7 else "R"
        x = width * (rng.uniform(0.86, 0.92) if side == "L" else rng.uniform(0.04, 0.09))
        y = height * rng.uniform(0.17, 0.24)  # clear of the words above
        thickness = max(1, round(2.2 * scale))
        cv2.putText(
            letters,
            side,
            (int(x), int(y)),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.8 * scale,
            255,
            thickness,
            cv2.LINE_AA,
        )
        if rng.random() < 0.3:
            plate = cv2.dilate(letters, np.ones((3, 3)), iterations=max(1, round(4 * scale)))
            letters = np.maximum(letters, np.where(letters < 80, 0.55 * plate, 0)).astype(np.uint8)
        if self._patient.view == "AP":
            words = ["AP", "PORTABLE"] if rng.random() < 0.5 else ["AP SUPINE"]
            for number, word in enumerate(words):
                place = (int(width * 0.03), int(height * 0.05 + number * 17 * scale))
                cv2.putText(
                    letters,
                    word,
                    place,
                    cv2.FONT_HERSHEY_SIMPLEX,
                    0.38 * scale,
                    248,
                    max(1, round(scale)),
                    cv2.LINE_AA,
                )
        turn = cv2.getRotationMatrix2D((x, y), rng.normal(0, 5), 1)
        return cv2.warpAffine(letters, turn, (width, height)).astype(np.float32) / 255

    def _devices(self, rng: np.random.Generator) -> Picture:
        """Leads of a monitor, and sometimes a tube in the windpipe or a central line."""
        canvas = self._canvas
        metal = canvas.blank()
        for _ in range(int(rng.integers(1, 4))):
            side = rng.choice([-1, 1])
            end = np.array([side * rng.uniform(0.55, 1.0), rng.uniform(-0.7, 0.6)])
            way = [
                end,
                (end[0] + side * 0.1, end[1] - 0.15),
                [side * rng.uniform(0.9, 1.3), rng.uniform(-0.4, 0.3)],
            ]
            way.append(np.array([side * 1.7, rng.uniform(-0.9, 0.9)]))
            metal += 0.22 * canvas.strokes([smooth(np.array(way), closed=False)], 0.009)
            ring = np.hypot(canvas.x - end[0], canvas.y - end[1])
            metal += 0.25 * ramp(-ring, -0.045, -0.035) + 0.3 * ramp(-ring, -0.022, -0.015)
        if rng.random() < 0.45:
            tube = smooth([(0.0, -2.5), (0.0, -1.3), (0.01, -0.62)], closed=False)
            metal += 0.14 * canvas.tubes([tube], 0.03, cortex=0.8)
        if rng.random() < 0.4:
            line = smooth([(-0.45, -1.5), (-0.32, -1.1), (-0.16, -0.8), (-0.17, -0.2)], closed=False)
            metal += 0.28 * canvas.strokes([line], 0.011)
        return metal
