"""The errors that covidmm raises for faults that a user can fix.

Each message names the file (or field) at fault and the cause in one line, which tools print unchanged.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CovidmmError(Exception):
    """Base of every error that a user can fix: bad input, a bad config, a full disk."""


class RadiographError(CovidmmError):
    """A file that cannot be read as a chest radiograph."""


class NotAcceptedError(RadiographError):
    """A radiograph that can be read, of a kind that the models are not made for."""


class DataError(CovidmmError):
    """A data set folder, label file or annotation that is missing, malformed or contradictory."""


class ConfigError(CovidmmError):
    """A config or a ``--cfg-options`` entry that nothing reads, or that contradicts the data."""


class CheckpointError(CovidmmError):
    """A checkpoint that is missing, unsafe to read, or that does not fit the model."""


class TrainingError(CovidmmError):
    """A training that cannot continue."""


class ClusterError(CovidmmError):
    """Other processes of a run, or a cluster, that cannot be used or that ended."""


class PluginError(CovidmmError):
    """A plugin that is unknown, misspelt or broken."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``": did you mean 'x'?"`` for the closest known name, or nothing."""
    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f": did you mean '{close[0]}'?" if close else ""
