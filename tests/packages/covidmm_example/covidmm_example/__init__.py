"""The smallest useful plugin of covidmm: one ensemble strategy and one study classifier."""

from __future__ import annotations

import numpy as np

from covidmm.findings import Detections
from covidmm.plugins import hookimpl


class Confident:
    """Keeps, of all members, the boxes that are confident enough."""

    def __init__(self, threshold: float = 0.5) -> None:
        self.threshold = threshold

    def fuse(self, members, weights, size):
        """Join the members' boxes and drop the unsure ones."""
        boxes = np.concatenate([member.boxes for member in members])
        scores = np.concatenate([member.scores for member in members])
        kept = scores >= self.threshold
        return Detections(boxes[kept], scores[kept])


class Boxed:
    """Calls a study typical when anything was detected in it, negative otherwise."""

    def classify(self, study):
        """Classify one study."""
        found = any(len(detections) for detections in study.detections)
        return np.array([0, 1, 0, 0] if found else [1, 0, 0, 0], np.float32)


@hookimpl
def covidmm_ensemble_strategies():
    return {"confident": Confident}


@hookimpl
def covidmm_study_classifiers():
    return {"boxed": Boxed}
