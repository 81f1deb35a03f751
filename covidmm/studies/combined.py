"""The mean of several study classifiers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covidmm.errors import ConfigError
from covidmm.findings import Study
from covidmm.plugins import PluginManager


class MeanOfClassifiers:
    """The weighted mean of several classifiers' probabilities.

    Args:
        members: a dict for each, as the config's ``study``; built-in or third-party.
        weights: one positive number per member; equal by default.

    Raises:
        ConfigError: no member, or weights that do not fit.
    """

    def __init__(self, members: Sequence[Mapping[str, Any]], weights: Sequence[float] | None = None) -> None:
        import covidmm.studies  # which imports this module

        if not members:
            raise ConfigError("an ensemble of study classifiers needs members")
        if weights is not None and (len(weights) != len(members) or min(weights) <= 0):
            raise ConfigError(f"{len(members)} members need {len(members)} positive weights, not {list(weights)}")
        manager = PluginManager([covidmm.studies])
        self.members = [manager.build_study_classifier(member) for member in members]
        self.weights = weights
        self.uses_detections = any(getattr(member, "uses_detections", True) for member in self.members)
        self.uses_pixels = any(getattr(member, "uses_pixels", True) for member in self.members)

    def classify(self, study: Study) -> NDArray[np.float32]:
        """(4,) probabilities of one study."""
        answers = [member.classify(study) for member in self.members]
        return np.average(answers, axis=0, weights=self.weights).astype(np.float32)
