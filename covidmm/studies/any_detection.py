"""Labels of a study that follow from its boxes, whatever they are of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from covidmm.errors import ConfigError, did_you_mean
from covidmm.findings import Study


class AnyDetection:
    """A study has a finding as surely as the most confident box of it on any of its radiographs; 0 without a box.

    Args:
        classes: the findings that are its labels; None for all that the ensemble finds.
    """

    multi_label = True
    uses_pixels = False

    def __init__(self, classes: Sequence[str] | None = None) -> None:
        self.classes = None if classes is None else tuple(classes)

    def require_classes(self, names: Sequence[str]) -> None:
        """Take all classes where none are named.

        Raises:
            ConfigError: the ensemble does not find a class that is named.
        """
        if self.classes is None:
            self.classes = tuple(names)
        for name in self.classes:
            if name not in names:
                known = f"the ensemble finds {', '.join(names)}{did_you_mean(name, names)}"
                raise ConfigError(f"study: classes has {name!r}, {known}")

    def classify(self, study: Study) -> NDArray[np.float32]:
        """(C,) probabilities of one study, each on its own."""
        scores = np.concatenate([np.zeros(0, np.float32), *(found.scores for found in study.detections)])
        labels = np.concatenate([np.zeros(0, np.int64), *(found.labels for found in study.detections)])
        indices = [study.classes.index(name) for name in self.classes or study.classes]
        return np.array([scores[labels == index].max(initial=0) for index in indices], np.float32)
