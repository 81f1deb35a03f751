"""A baseline classifier of SIIM's study classes without a network: the appearance follows from the boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from covidmm.errors import ConfigError
from covidmm.findings import STUDY_CLASSES, Detections, Study

#: Given opacities on both sides, on one side, or one that fills half a lung: probabilities of typical,
#: indeterminate and atypical. After the definitions of the classes (Litmanovich et al., 2020): typical is bilateral
#: and peripheral, indeterminate unilateral or central, atypical lobar or nodular. The numbers are chosen here.
BILATERAL = (0.80, 0.12, 0.08)
UNILATERAL = (0.20, 0.50, 0.30)
LOBAR = (0.10, 0.20, 0.70)
#: Height of a box, as a share of the image, from which it is taken for a lobe or more.
LOBAR_HEIGHT = 0.45


class RulesOnDetections:
    """How many opacities there are, on which side, and how large: a baseline that any model should beat.

    With s the scores of the boxes: an opacity is there with probability 1 - prod(1 - s), per side of the image and in
    all; it is on both sides with the product of the two. Boxes below ``threshold`` do not count. A study is its most
    opaque radiograph; one without radiographs is negative with ``prior_negative``.

    Args:
        threshold: confidence below which a box is ignored, 0..1.
        prior_negative: probability of negative that a study without any box gets at least.
        finding: the class whose boxes count.
    """

    classes = STUDY_CLASSES
    uses_pixels = False

    def __init__(self, threshold: float = 0.1, prior_negative: float = 0.8, finding: str = "opacity") -> None:
        if not (0 <= threshold < 1 and 0 < prior_negative < 1):
            raise ValueError(f"threshold and prior_negative must lie in 0..1, not {threshold} and {prior_negative}")
        self.threshold = threshold
        self.prior_negative = prior_negative
        self.finding = finding

    def require_classes(self, names: Sequence[str]) -> None:
        """Refuse an ensemble that does not find the class whose boxes count.

        Raises:
            ConfigError: names what it finds.
        """
        if self.finding not in names:
            raise ConfigError(f"study: finding is '{self.finding}', the ensemble finds {', '.join(names)}")

    def classify(self, study: Study) -> NDArray[np.float32]:
        """(4,) probabilities of one study.

        Raises:
            ConfigError: as :meth:`require_classes`.
        """
        self.require_classes(study.classes)
        label = study.classes.index(self.finding)
        rows = [
            self._of_one((radiograph.header.height, radiograph.header.width), found, label)
            for radiograph, found in zip(study.radiographs, study.detections, strict=True)
        ]
        if not rows:
            rest = (1 - self.prior_negative) / 3
            return np.array([self.prior_negative, rest, rest, rest], np.float32)
        return min(rows, key=lambda row: row[0])

    def _of_one(self, size: tuple[int, int], found: Detections, label: int) -> NDArray[np.float32]:
        height, width = size
        kept = (found.scores >= self.threshold) & (found.labels == label)
        boxes, scores = found.boxes[kept], found.scores[kept].astype(np.float64)
        left = (boxes[:, 0] + boxes[:, 2]) / 2 < width / 2
        sides = [1 - np.prod(1 - scores[mask]) for mask in (left, ~left)]
        any_side = 1 - (1 - sides[0]) * (1 - sides[1])
        both = sides[0] * sides[1]
        large = (boxes[:, 3] - boxes[:, 1]) >= LOBAR_HEIGHT * height
        # lobar counts on one side only: two large ones are rather typical
        lobar = (any_side - both) * (1 - np.prod(1 - scores[large]))
        shares = np.outer(both, BILATERAL) + np.outer(lobar, LOBAR) + np.outer(any_side - both - lobar, UNILATERAL)
        negative = (1 - any_side) * self.prior_negative
        opaque = shares[0] + (1 - any_side) * (1 - self.prior_negative) / 3
        return np.array([negative, *opaque], np.float32)
