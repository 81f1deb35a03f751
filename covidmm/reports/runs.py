"""Folders of trainings, tests and ensembles, read even while a job still writes into them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from covidmm.errors import PluginError
from covidmm.findings import StudyLabels
from covidmm.utils.fileio import json_value
from covidmm.utils.provenance import sha256

ENSEMBLE = "ensemble"
_OPERATING = "operating.json"
#: Raised where a file holds other values than covidmm writes; the file may have been edited.
DAMAGES = (KeyError, ValueError, TypeError, AttributeError, IndexError)


@dataclass(frozen=True)
class Run:
    """A folder of ``tools/train.py`` or ``tools/test.py``.

    Attributes:
        name: of the folder.
        folder: the folder.
        train: the logged steps, each a mapping with ``step``, ``epoch``, ``lr`` and losses.
        val: the validations, each a mapping with ``step`` (the epoch) and metrics.
        results: metrics on a test split by model name; empty where it was not tested.
        provenance: of those, by the same names.
        predictions: the file of the test's predictions, if it is there.
        config: the whole config as the run dumped it.
        log: the last training's log.
    """

    name: str
    folder: Path
    train: Sequence[Mapping[str, Any]] = ()
    val: Sequence[Mapping[str, Any]] = ()
    results: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    provenance: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    predictions: Path | None = None
    config: Path | None = None
    log: Path | None = None


@dataclass(frozen=True)
class Fused:
    """One split of an output folder of ``tools/ensemble.py``.

    Attributes:
        name: of the folder and the split.
        folder: with ``ensemble.json``, its header, and those of the members.
        thresholds: chosen on validation, by detector.
        class_thresholds: those of single classes, by detector and class.
        metrics: the sections ``detectors``, ``study`` and ``competition``, as far as it was scored.
        provenance: of the ensemble.
        studies: probabilities by study.
        study_labels: what they stand for.
    """

    name: str
    folder: Path
    thresholds: Mapping[str, float] = field(default_factory=dict)
    class_thresholds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    studies: Mapping[str, Sequence[float]] = field(default_factory=dict)
    study_labels: StudyLabels = field(default_factory=StudyLabels)


@dataclass
class Found:
    """Everything that was recognised, and a remark for everything else."""

    runs: list[Run] = field(default_factory=list)
    fused: list[Fused] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.runs or self.fused)


def find_runs(folders: Sequence[Path]) -> Found:
    """Recognise each folder by its files; one that is not recognised is searched one level down."""
    found = Found()
    for folder in folders:
        if not folder.is_dir():
            found.remarks.append(f"{folder}: no such folder")
        elif not _found(folder, found) and not sum(_found(one, found) for one in _folders(folder)):
            found.remarks.append(f"{folder}: nothing of tools/train.py, tools/test.py or tools/ensemble.py in it")
    return found


def read_json(path: Path, remarks: list[str]) -> dict[str, Any]:
    """A JSON object; {} with a remark where the file is damaged, {} where it is missing."""
    try:
        content = json_value(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        remarks.append(f"{path}: cannot be read ({error})")
        return {}
    if isinstance(content, dict):
        return content
    remarks.append(f"{path}: does not hold an object")
    return {}


def _found(folder: Path, found: Found) -> bool:
    try:
        return _add(folder, found)
    except DAMAGES as error:
        found.remarks.append(f"{folder}: not as covidmm writes it ({type(error).__name__}: {error})")
        return False


def _add(folder: Path, found: Found) -> bool:
    splits = [path.parent for path in (folder, *_folders(folder)) for path in path.glob(f"{ENSEMBLE}.header.json")]
    for split in splits:
        # numbers are chosen on validation, so its own are no results, unless there is nothing else
        if split.name != "val" or len(splits) == 1:
            found.fused.append(_fused(split, found.remarks))
    if splits:
        return True
    scalars = sorted(folder.glob("*/vis_data/scalars.json"))
    tests = list(_results(folder, found.remarks))
    if not scalars and not (folder / "metrics.json").is_file():
        return False
    if not scalars and len(tests) != 1:
        return False  # metrics of several models: they belong to the folders beside
    found.runs.append(_run(folder, scalars, tests))
    return True


def _run(folder: Path, scalars: Sequence[Path], tests: Sequence[tuple[str, Path, dict, dict]]) -> Run:
    train: list[dict[str, Any]] = []
    val: list[dict[str, Any]] = []
    for path in scalars:
        lines = list(_lines(path))
        steps, epochs = [one for one in lines if "lr" in one], [one for one in lines if "lr" not in one]
        # a resumed training continues from its checkpoint, a new one starts at 0
        start = min((one.get("step", 0) for one in steps), default=0)
        epoch = min((one.get("epoch", 1) for one in steps), default=0)
        train = [one for one in train if one.get("step", 0) < start] + steps
        val = [one for one in val if one.get("step", 0) < epoch] + epochs
    recorded = [_recorded(path.parent, origin) for _, path, _, origin in tests if "predictions" in origin]
    places = [folder, *(path.parent for _, path, _, _ in tests)]
    predictions = recorded or [path for place in places if (path := place / "predictions.json").is_file()]
    logs = [path.parent.parent for path in scalars] or sorted(path for path in folder.glob("[0-9]*_[0-9]*"))
    log = next(iter(logs[-1].glob("*.log")), None) if logs else None
    return Run(
        name=folder.name if folder.name != "test" else f"{folder.parent.name}/test",
        folder=folder,
        train=train,
        val=val,
        results={name: section for name, _, section, _ in tests},
        provenance={name: origin for name, _, _, origin in tests},
        predictions=predictions[0] if predictions else None,
        config=next(iter(sorted(folder.glob("*.py"))), None),
        log=log,
    )


def _recorded(folder: Path, origin: Mapping[str, Any]) -> Path | None:
    """The file of predictions that a test wrote, wherever ``--out`` put it, if it is there and still the same.

    Args:
        folder: of ``metrics.json``.
        origin: the test's provenance.
    """
    found = Path(os.path.normpath(folder / origin["predictions"]))
    if not found.is_file():
        found = folder / found.name
    return found if found.is_file() and sha256(found) == origin.get("predictions_sha256") else None


def find_file(recorded: str, near: Path) -> Path | None:
    """The file or folder that a run recorded: as it stands, or below one of the folders that the run lies in."""
    for root in (Path(), *near.resolve().parents):
        if (root / recorded).exists():
            return root / recorded
    return None


def _results(folder: Path, remarks: list[str]) -> Iterable[tuple[str, Path, dict[str, Any], dict[str, Any]]]:
    """Name, file, metrics and provenance of every test of this folder's own checkpoints."""
    for path in (folder / "metrics.json", *sorted(folder.glob("*/metrics.json")), folder.parent / "metrics.json"):
        content = read_json(path, remarks)
        for name, origin in (content.get("provenance") or {}).items():
            if not isinstance(origin, dict) or "checkpoint" not in origin:
                continue
            own = path.parent == folder or Path(origin["checkpoint"]).parent.name == folder.name
            section = (content.get("detectors") or {}).get(name) or content.get(name)
            if own and isinstance(section, dict):
                yield name, path, section, origin


def _fused(folder: Path, remarks: list[str]) -> Fused:
    metrics: dict[str, Any] = {}
    for path in (folder / "metrics.json", folder.parent / "metrics.json", folder.parent.parent / "metrics.json"):
        metrics = read_json(path, remarks)
        if ENSEMBLE in (metrics.get("provenance") or {}):
            break
    operating = read_json(folder.parent / _OPERATING, remarks)
    scored = ENSEMBLE in (metrics.get("provenance") or {}) and folder.name != "val"
    sections = {key: metrics[key] for key in ("detectors", "study", "competition") if scored and key in metrics}
    answers = read_json(folder / "study.json", remarks)
    return Fused(
        name=f"{folder.parent.name}/{folder.name}",
        folder=folder,
        thresholds=operating.get("thresholds") or {},
        class_thresholds=operating.get("per_class") or {},
        metrics=sections,
        provenance=metrics["provenance"][ENSEMBLE] if scored else {},
        studies=answers.get("studies") or {},
        study_labels=_study_labels(answers, folder / "study.json"),
    )


def _study_labels(answers: Mapping[str, Any], path: Path) -> StudyLabels:
    try:
        return StudyLabels.of_json(answers.get("made_from") or {})
    except PluginError as error:
        raise ValueError(f"{path}: {error}") from error


def _lines(path: Path) -> Iterable[dict[str, Any]]:
    """The whole lines; a running job may have written half of the last one."""
    for line in path.read_text(errors="replace").splitlines():
        try:
            content = json_value(line)
        except ValueError:
            continue
        if isinstance(content, dict):
            yield content


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())
