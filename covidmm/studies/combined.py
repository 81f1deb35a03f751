"""The mean of several study classifiers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covidmm.errors import ConfigError
from covidmm.findings import Study, StudyLabels
from covidmm.plugins import PluginManager


class MeanOfClassifiers:
    """The weighted mean of several classifiers' probabilities.

    Args:
        members: a dict for each, as the config's ``study``; built-in or third-party.
        weights: one positive number per member; equal by default.

    Raises:
        ConfigError: no member, weights that do not fit, or members of other classes than the first.
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

    @property
    def classes(self) -> tuple[str, ...]:
        """Those of each member."""
        return StudyLabels.of(self.members[0]).names

    @property
    def multi_label(self) -> bool:
        """As each member."""
        return StudyLabels.of(self.members[0]).multi_label

    @property
    def negative(self) -> str | None:
        """As each member."""
        return StudyLabels.of(self.members[0]).negative

    def require_classes(self, names: Sequence[str]) -> None:
        """Tell each member which boxes it will see, and refuse members of other classes than the first.

        Raises:
            ConfigError: names the classes of both.
        """
        for member in self.members:
            if require := getattr(member, "require_classes", None):
                require(names)
        first, *others = map(StudyLabels.of, self.members)
        for other in others:
            if other != first:
                shown = " and of ".join(", ".join(one.names) for one in (first, other))
                raise ConfigError(f"study: the members classify differently, a mean needs the same: of {shown}")

    def classify(self, study: Study) -> NDArray[np.float32]:
        """(C,) probabilities of one study."""
        answers = [member.classify(study) for member in self.members]
        return np.average(answers, axis=0, weights=self.weights).astype(np.float32)
