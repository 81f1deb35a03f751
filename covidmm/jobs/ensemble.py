"""The job behind ``tools/ensemble.py``: a folder of radiographs in, a submission and an honest score out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import covidmm.ensembles
import covidmm.studies
from covidmm.datasets.cases import CaseList, read_cases
from covidmm.ensembles.config import EnsembleConfig, load_ensemble
from covidmm.errors import ConfigError, DataError
from covidmm.jobs.fusion import ENSEMBLE, fuse_folder
from covidmm.jobs.prediction import FolderRun, classify_studies, predict_members
from covidmm.plugins import PluginManager
from covidmm.predictions import Predictions


@dataclass(frozen=True)
class Request:
    """What ``tools/ensemble.py`` was asked; see its ``--help``."""

    config: str
    data: str
    split: str | None = None
    out: str | None = None
    predictions: str | None = None
    strategy: str | None = None
    sample: str | None = None
    score: bool = False
    sweep: bool = False
    show_dir: str | None = None
    cfg_options: tuple[str, ...] = ()


@dataclass
class Outcome:
    """One folder, predicted and fused.

    Attributes:
        run: the ensemble and its folder.
        members: what each detector predicted.
        fused: what the ensemble makes of it.
        studies: probabilities by study, None where no classifier is asked.
        submission: the file that was written.
        metrics: what was measured, where the folder was scored.
    """

    run: FolderRun
    members: Mapping[str, Predictions]
    fused: Predictions
    studies: Mapping[str, list[float]] | None
    submission: Path | None = None
    metrics: dict[str, Any] = field(default_factory=dict)

    @property
    def detectors(self) -> dict[str, Predictions]:
        """Members and ensemble by name."""
        return {**self.members, ENSEMBLE: self.fused}


def ensemble(request: Request) -> Outcome:
    """Predict, fuse, classify and write a submission; score and sweep where asked.

    Raises:
        CovidmmError: a config, checkpoint, folder or plugin that cannot be used.
    """
    swap = (f"strategy.type={request.strategy}",) if request.strategy else ()
    config = load_ensemble(request.config, (*request.cfg_options, *swap))
    folder = Path(request.predictions or Path("work_dirs") / Path(request.config).stem)
    if ENSEMBLE in config.members:
        raise ConfigError(f"{request.config}: no member may be called '{ENSEMBLE}'")
    manager = PluginManager([covidmm.ensembles, covidmm.studies])
    cases = read_cases(request.data, request.split)
    outcome = run_folder(config, cases, folder, manager)
    return outcome


def run_folder(config: EnsembleConfig, cases: CaseList, folder: Path, manager: PluginManager) -> Outcome:
    """Predict, fuse and classify one folder; its files go below ``folder``, those of each split by themselves."""
    run = FolderRun(config, cases, folder / (cases.split or "images"))
    # built first: a misspelt name should not cost a prediction
    strategy = manager.build_strategy(config.strategy)
    members = predict_members(run)
    fused = fuse_folder(run, strategy, members)
    if all(image.error for image in fused.images):
        raise DataError(f"{cases.source}: none of its {len(cases)} images can be read: {fused.images[0].error}")
    studies = classify_studies(run, manager, fused, fused.made_from)
    return Outcome(run, members, fused, studies)
