"""Built-in study classifiers, by name."""

from __future__ import annotations

from collections.abc import Callable

from covidmm.plugins import hookimpl
from covidmm.plugins.hookspecs import StudyClassifier
from covidmm.studies.combined import MeanOfClassifiers
from covidmm.studies.from_detections import RulesOnDetections
from covidmm.studies.network import NetworkClassifier


@hookimpl
def covidmm_study_classifiers() -> dict[str, Callable[..., StudyClassifier]]:
    """``resnext``, ``ensemble`` and ``from_detections``."""
    return {"resnext": NetworkClassifier, "ensemble": MeanOfClassifiers, "from_detections": RulesOnDetections}
