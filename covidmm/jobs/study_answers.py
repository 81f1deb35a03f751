"""Probabilities of studies, kept beside the predictions of a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from covidmm.engine.checkpointing import trained_file
from covidmm.errors import DataError
from covidmm.findings import StudyLabels
from covidmm.outputs.predictions import Predictions
from covidmm.utils.csv_tables import csv_bytes
from covidmm.utils.fileio import json_value, write_bytes
from covidmm.utils.provenance import sha256


def read_answers(path: Path) -> dict[str, Any] | None:
    """What an earlier run kept: ``made_from`` and ``studies``; None where there is no file.

    Raises:
        DataError: it is damaged.
    """
    try:
        content = json_value(path.read_text())
        return {"made_from": content["made_from"], "studies": content["studies"]}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: damaged ({error!r}); remove it to classify again") from error


def write_table(path: Path, studies: Mapping[str, Sequence[float]], labels: StudyLabels) -> None:
    """Write the probabilities as CSV: ``study_id``, and a column for each class."""
    rows = [(study, *values) for study, values in studies.items()]
    write_bytes(path, csv_bytes(("study_id", *labels.names), rows))


def require_whole(path: Path, studies: Any, fused: Predictions, classes: int) -> None:
    """Refuse answers that are not a probability per class of every study with a readable image.

    Raises:
        DataError: they are something else.
    """
    readable = {image.study_id for image in fused.images if not image.error}
    answered = isinstance(studies, dict) and studies.keys() == readable
    if not answered or not all(_is_answer(one, classes) for one in studies.values()):
        raise DataError(f"{path}: damaged (not {classes} probabilities of every study); remove it to classify again")


def _is_answer(values: Any, classes: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) == classes
        and all(isinstance(v, int | float) and 0 <= v <= 1 for v in values)
    )


def with_checkpoints(config: Any) -> Any:
    """A plugin's config with the hash of every checkpoint that it names."""
    if isinstance(config, Mapping):
        named = {key: with_checkpoints(value) for key, value in config.items()}
        if isinstance(config.get("checkpoint"), str):
            named["checkpoint_sha256"] = sha256(trained_file(config["checkpoint"]))
        return named
    if isinstance(config, list | tuple):
        return [with_checkpoints(value) for value in config]
    return config
