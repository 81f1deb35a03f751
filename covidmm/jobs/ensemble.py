"""The job behind ``tools/ensemble.py``: a folder of radiographs in, a submission and an honest score out."""

from __future__ import annotations

import time
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
    """Predict, fuse, classify and write a submission; score and tune where asked.

    Raises:
        CovidmmError: a config, checkpoint, folder or plugin that cannot be used.
    """
    started = time.monotonic()
    swap = (f"strategy.type={request.strategy}",) if request.strategy else ()
    config = load_ensemble(request.config, (*request.cfg_options, *swap))
    if ENSEMBLE in config.members:
        raise ConfigError(f"{request.config}: no member may be called '{ENSEMBLE}'")
    folder = Path(request.predictions or Path("work_dirs") / Path(request.config).stem)
    manager = PluginManager([covidmm.ensembles, covidmm.studies])
    cases = read_cases(request.data, request.split)
    if request.sweep:
        tune_on_validation(config, request.data, folder, manager)
    outcome = run_folder(config, cases, folder, manager)
    outcome.submission = Path(request.out) if request.out else outcome.run.folder / "submission.csv"
    with outcome.run.timed("write"):
        submit(outcome, request.sample)
    report_run(outcome, time.monotonic() - started)
    if request.score:
        score(outcome, request, folder, manager)
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


def tune_on_validation(config: EnsembleConfig, data: str, folder: Path, manager: PluginManager) -> None:
    """Choose the fusion's numbers on the validation split of a prepared folder."""
    cases = read_cases(data, "val")
    run = FolderRun(config, cases, folder / "val")
    tune(config, predict_members(run), read_truth(cases), folder)


def report_run(outcome: Outcome, seconds: float) -> None:
    """Print where the time went, what was skipped and what was written."""
    run, images = outcome.run, len(outcome.run.cases)
    studies = len({case.study_id for case in run.cases.cases})
    made = f"predicted anew: {', '.join(run.fresh)}" if run.fresh else "no model was run"
    print(f"\n{images} images of {studies} studies in {seconds:.1f} s; {made}")
    total = sum(run.seconds.values())
    for step, taken in sorted(run.seconds.items(), key=lambda item: -item[1]):
        print(f"  {step:<10} {taken / images:8.4f} s per image  {taken / total:6.1%}")
    broken = [image for image in outcome.fused.images if image.error]
    if broken:
        write_bytes(run.folder / "skipped.csv", _skipped(broken))
        print(f"{len(broken)} of {images} images cannot be read, see {run.folder / 'skipped.csv'}:")
        for image in broken[:_LISTED]:
            print(f"  {image.error}")
    print(f"submission: {outcome.submission}")
