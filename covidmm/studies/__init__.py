"""Built-in study classifiers, by name."""

from __future__ import annotations

from collections.abc import Callable

from covidmm.plugins import hookimpl
from covidmm.plugins.hookspecs import StudyClassifier
from covidmm.studies.any_detection import AnyDetection
from covidmm.studies.combined import MeanOfClassifiers
from covidmm.studies.from_detections import RulesOnDetections
from covidmm.studies.network import NetworkClassifier


@hookimpl
def covidmm_study_classifiers() -> dict[str, Callable[..., StudyClassifier]]:
    """``resnext``, ``ensemble``, ``any_detection``, and ``from_detections`` of SIIM's classes."""
    return {
        "resnext": NetworkClassifier,
        "ensemble": MeanOfClassifiers,
        "any_detection": AnyDetection,
        "from_detections": RulesOnDetections,
    }
