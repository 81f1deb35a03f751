"""A gate behind the fusion: how likely it is that there is anything at all decides what becomes of the boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from covidmm.errors import ConfigError, CovidmmError, did_you_mean
from covidmm.findings import Detections, StudyLabels
from covidmm.plugins import PluginManager, StudyClassifier

LEVELS = ("study", "image")
# Probabilities are kept in files with so many decimals.
_DECIMALS = 6


@dataclass(frozen=True)
class Gate:
    """A classifier's probability p that there is anything at all, applied to the boxes of any strategy.

    Scores are multiplied by p**power; below ``low`` there are no boxes, from ``high`` on they stay as they are. Powers
    are of the SIIM-FISABIO-RSNA challenge's winners, two limits of those of VinBigData's (both 2021), whose ``low`` and
    ``high`` leave the boxes between them (power 0).

    Attributes:
        classifier: type and arguments of a study classifier; None for the ensemble's own ``study``.
        negative: the class that says that there is nothing: p is 1 minus its probability. None for a classifier of
            several labels, whose p is the greatest probability of all.
        level: ``study``, one p for all images of a study, or ``image``, each image classified as a study of its own.
        power: not negative.
        low: p below which all boxes are left out.
        high: p from which all boxes stay as they are.

    Raises:
        ConfigError: a value out of range.
    """

    classifier: Mapping[str, Any] | None = None
    negative: str | None = None
    level: str = "study"
    power: float = 1.0
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if self.classifier is not None and not isinstance(self.classifier, Mapping):
            raise ConfigError(f"classifier must be a dict with a type, not {self.classifier!r}")
        if self.level not in LEVELS:
            raise ConfigError(f"level is {self.level!r}, it can be {' or '.join(LEVELS)}{_near(self.level, LEVELS)}")
        for name in ("power", "low", "high"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
                raise ConfigError(f"{name} must be a number, not {value!r}")
        if self.power < 0:
            raise ConfigError(f"power must not be negative, it is {self.power}")
        if not 0 <= self.low <= self.high <= 1:
            raise ConfigError(f"low and high must lie in 0..1 in this order, they are {self.low} and {self.high}")

    def build_classifier(
        self, path: Path, manager: PluginManager, study: StudyClassifier | None, finds: Sequence[str]
    ) -> StudyClassifier:
        """The classifier that is asked.

        Args:
            path: of the ensemble's config.
            manager: of the plugins.
            study: the ensemble's own classifier, which a gate without one of its own asks.
            finds: classes of the ensemble's boxes.

        Raises:
            CovidmmError: one that cannot be used, or that does not have the gate's classes.
        """
        try:
            built = study if self.classifier is None else manager.build_study_classifier(self.classifier, finds)
            self.require_classifier(built)
        except CovidmmError as error:
            raise type(error)(f"{path}: gate: {error}") from error
        return built

    def require_classifier(self, classifier: object) -> None:
        """Refuse a classifier that does not say whether there is anything.

        Raises:
            ConfigError: there is none; it does not have the class ``negative``, or needs one to be named.
        """
        if classifier is None:
            raise ConfigError(
                "needs a classifier: the config's study, or one of its own as classifier = dict(type=...)"
            )
        labels = StudyLabels.of(classifier)
        names, several = labels.names, labels.multi_label
        if self.negative is not None and self.negative not in names:
            near = _near(self.negative, names)
            raise ConfigError(f"negative is {self.negative!r}, the classifier's classes are {', '.join(names)}{near}")
        if self.negative is None and not several:
            raise ConfigError(f"negative must name the class of the classifier that says nothing: {', '.join(names)}")

    def anything(self, classifier: object, values: Sequence[float]) -> float:
        """The probability that there is anything at all, by a classifier's probabilities in its order."""
        names = StudyLabels.of(classifier).names
        own = np.asarray(values, np.float64).round(_DECIMALS)
        return float(own.max() if self.negative is None else 1 - own[names.index(self.negative)])

    def factor(self, anything: float) -> float:
        """What scores are multiplied by, 0..1."""
        if anything < self.low:
            return 0.0
        return 1.0 if anything >= self.high else anything**self.power

    def __call__(self, found: Detections, anything: float) -> Detections:
        """The boxes of one image behind the gate."""
        if anything < self.low:
            return Detections.none()
        return Detections(found.boxes, found.scores * np.float32(self.factor(anything)), found.labels)


def _near(name: object, known: Sequence[str]) -> str:
    return did_you_mean(str(name), known)
