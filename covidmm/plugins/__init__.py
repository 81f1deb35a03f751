"""Ensemble strategies and study classifiers, chosen by name and open to third parties."""

from covidmm.plugins.hookspecs import EnsembleStrategy, StudyClassifier, hookimpl
from covidmm.plugins.manager import PluginManager

__all__ = ["EnsembleStrategy", "PluginManager", "StudyClassifier", "hookimpl"]
