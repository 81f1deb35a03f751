"""Grad-CAM of a study classifier, in places of the original image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covidmm.models.grad_cam import GradCam
from covidmm.radiograph import Radiograph
from covidmm.studies.combined import MeanOfClassifiers
from covidmm.studies.network import NetworkClassifier


@dataclass(frozen=True)
class Attention:
    """Grad-CAM of one radiograph.

    Attributes:
        study_class: the likeliest class of this radiograph alone, which is what the map speaks of.
        heat: (h, w) float32, 0..1, 1 where the network looked most; all 0 where no cell speaks for the class.
        region: x1 y1 x2 y2, what the map covers as shares of width and height: a network that crops saw no more.
    """

    study_class: str
    heat: NDArray[np.float32]
    region: tuple[float, float, float, float]


def explainable(classifier: Any) -> NetworkClassifier | None:
    """The network behind a study classifier, the first where several are joined; None where there is none."""
    members = classifier.members if isinstance(classifier, MeanOfClassifiers) else [classifier]
    return next((one for one in members if isinstance(one, NetworkClassifier)), None)


class Explainer:
    """Grad-CAM of a study classifier.

    Args:
        classifier: the network.
    """

    def __init__(self, classifier: NetworkClassifier) -> None:
        self.classifier = classifier
        self.explain = GradCam(classifier.model, classifier.temperature)

    def __call__(self, radiograph: Radiograph) -> Attention:
        """Explain one radiograph."""
        scores, heat = self.explain(self.classifier.inputs_of(radiograph.pixels))
        scaled = heat / max(float(heat.max()), 1e-12)
        return Attention(
            self.classifier.classes[int(scores.argmax())], scaled.astype(np.float32), self._seen(radiograph)
        )

    def _seen(self, radiograph: Radiograph) -> tuple[float, float, float, float]:
        """What the pipeline left of the radiograph: two ramps are sent through it and read at its edges."""
        height, width = radiograph.pixels.shape
        ends = []
        for length, axis in ((width, 1), (height, 0)):
            ramp = np.rint((np.arange(length) + 0.5) / length * 255).astype(np.uint8)
            ramp = np.broadcast_to(ramp if axis else ramp[:, None], (height, width))
            seen = self.classifier.inputs_of(np.ascontiguousarray(ramp)).numpy()[0].mean(0 if axis else 1)
            slope, start = np.polyfit(np.arange(len(seen)), seen / 255, 1)
            ends.append(np.clip((start - 0.5 * slope, start + (len(seen) - 0.5) * slope), 0, 1))
        (x1, x2), (y1, y2) = ends
        return float(x1), float(y1), float(x2), float(y2)
