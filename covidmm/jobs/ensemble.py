"""Predict, fuse and classify a folder of radiographs, and write and score a submission: ``tools/ensemble.py``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.logging import MMLogger

from covidmm.datasets.image_folders import read_image_folder
from covidmm.ensembles.ensemble_config import load_ensemble
from covidmm.errors import ConfigError
from covidmm.findings import OPACITY, StudyLabels
from covidmm.inference.core import plugins
from covidmm.inference.mapping import sharing
from covidmm.jobs.ensemble_checks import (
    require_folder_fits,
    require_options,
    require_sample,
    require_unfitted_fusion,
    require_unseen_images,
)
from covidmm.jobs.exported_predictions import export_outcome
from covidmm.jobs.folder_report import report_files
from covidmm.jobs.folder_run import ENSEMBLE, FolderRun, Outcome, predict_members, run_folder
from covidmm.jobs.folder_truth import read_truth, require_scorable
from covidmm.jobs.scoring import Operating, plan_thresholds, score_outcome
from covidmm.jobs.structured_reports import write_reports
from covidmm.jobs.study_answers import write_table
from covidmm.jobs.tuning import tune
from covidmm.outputs.kaggle import (
    NoneRule,
    Rerank,
    image_row,
    ranked_row,
    study_row,
    write_submission,
)
from covidmm.plugins import PluginManager
from covidmm.utils.fileio import json_bytes, write_bytes
from covidmm.utils.pool import Mapper

_LISTED = 5
#: Beside the predictions: the probabilities of the studies.
STUDY_TABLE = "study.csv"


@dataclass(frozen=True)
class Request:
    """The arguments of ``tools/ensemble.py``; see its ``--help``."""

    config: str
    data: str
    split: str | None = None
    out: str | None = None
    predictions: str | None = None
    strategy: str | None = None
    sample: str | None = None
    score: bool = False
    sweep: bool = False
    metrics: str | None = None
    show_dir: str | None = None
    sr: str | None = None
    sr_threshold: float = 0.3
    sr_deidentify: bool = False
    launcher: str = "none"
    scheduler: str | None = None
    cfg_options: tuple[str, ...] = ()
    thresholds_from: str | None = None
    allow_training_images: bool = False
    export: tuple[str, ...] = ()
    export_threshold: float = 0.3


def ensemble(request: Request) -> Outcome | None:
    """Predict, fuse, classify and write a submission; score and tune where asked.

    Returns:
        What was made of the folder; None in a process that has only helped the first of several.

    Raises:
        CovidmmError: a config, checkpoint, folder or plugin that cannot be used.
    """
    with sharing(request.launcher, request.scheduler, [Path(request.data)]) as mapping:
        return None if mapping is None else _ensemble(request, mapping)


def _ensemble(request: Request, mapping: Mapper) -> Outcome:
    job = _checked(request, mapping)
    manager, config = job.manager, job.run.config
    if job.validation is not None:
        truth = read_truth(job.validation.cases, job.validation.classes.names)
        tune(config, job.validation.classes, predict_members(job.validation), truth, job.validation.folder.parent)
    started = time.monotonic()
    outcome = run_folder(job.run, manager)
    out = Path(request.out) if request.out else outcome.run.folder / "submission.csv"
    with outcome.run.timed("write"):
        submit(outcome, out, job.none, job.rerank)
        write_bytes(out.with_name(f"{out.name}.json"), json_bytes(outcome.origin(), indent=2))
        if outcome.studies is not None:
            write_table(outcome.run.folder / STUDY_TABLE, outcome.studies, outcome.study_labels)
    _report(outcome, out, time.monotonic() - started)
    if request.sr:
        _report_structured(outcome, request)
    for line in export_outcome(outcome, out.parent, request.export, request.export_threshold) if request.export else ():
        print(line)
    if request.sample:
        print(f"ids: the same as in {request.sample}")
    if job.operating is not None:
        metrics = Path(request.metrics) if request.metrics else outcome.run.folder / "metrics.json"
        score_outcome(outcome, manager, job.operating, out, metrics, request.show_dir)
    return outcome


@dataclass(frozen=True)
class _Job:
    """What a request asks for, checked."""

    manager: PluginManager
    run: FolderRun
    validation: FolderRun | None
    operating: Operating | None
    none: NoneRule
    rerank: Rerank


def _checked(request: Request, mapping: Mapper) -> _Job:
    """Read and check all that can be known before anything is predicted."""
    require_options(request)
    # at its default level MMEngine logs the variables that each config read, many times
    MMLogger.get_instance("covidmm", log_level="WARNING")
    swap = (f"strategy.type={request.strategy}",) if request.strategy else ()
    config = load_ensemble(request.config, (*request.cfg_options, *swap))
    if ENSEMBLE in config.members:
        raise ConfigError(f"{request.config}: no member may be called '{ENSEMBLE}'")
    none, rerank = config.rules()
    if config.study is None:
        none.require_classifier(None)
    manager = plugins()
    strategy = config.build_strategy(manager)
    cases = read_image_folder(request.data, request.split)
    require_folder_fits(request, cases)
    if request.sample:
        require_sample(request.sample, cases)
    folder = Path(request.predictions or Path("work_dirs") / config.path.stem)
    run = FolderRun(config, cases, folder / (cases.split or "images"), mapping=mapping)
    keys = run.cache_keys()  # a checkpoint that is missing
    run.classes.require_fits(strategy)
    if classifier := config.build_classifier(manager, run.classes.names):
        none.require_classifier(StudyLabels.of(classifier))
    if request.sample and not _has_study_rows(StudyLabels.of(classifier), classifier is not None, run.classes.names):
        raise ConfigError(f"--sample: {request.sample}: has rows of studies, of SIIM's classes; here are none of them")
    validation, operating, looked_at = None, None, []
    if request.sweep:
        validation = FolderRun(config, read_image_folder(request.data, "val"), folder / "val", mapping=mapping)
        require_scorable(validation.cases, run.classes.names)
        looked_at.append(validation.cases)
    if request.score:
        require_scorable(cases, run.classes.names, studies=True)
        operating = plan_thresholds(run, request.thresholds_from)
        require_unfitted_fusion(strategy, keys, cases, request.allow_training_images)
        looked_at += [cases, *([operating.chosen_on] if operating.chosen_on is not None else [])]
    require_unseen_images(config, looked_at, request.score, request.allow_training_images)
    return _Job(manager, run, validation, operating, none, rerank)


def submit(outcome: Outcome, path: Path, none: NoneRule, rerank: Rerank) -> None:
    """Write the submission: a row for every study and every image of the folder, readable or not.

    Studies have rows where they are classified into SIIM's classes, and in the challenge, whose images have opacities
    alone.
    """
    probabilities, names, labels = outcome.studies or {}, outcome.run.classes.names, outcome.study_labels
    studies, images = {}, {}
    if _has_study_rows(labels, outcome.studies is not None, names):
        studies = {case.study_id: study_row(probabilities.get(case.study_id)) for case in outcome.run.cases.images}
    for image, found in outcome.fused:
        if image.error:
            images[image.image_id] = image_row(None)
            continue
        negative = labels.negative_in(probabilities[image.study_id]) if outcome.studies is not None else None
        images[image.image_id] = ranked_row(found, negative, none, rerank, names)
    write_submission(path, studies, images)


def _has_study_rows(labels: StudyLabels, classified: bool, names: Sequence[str]) -> bool:
    """Whether a submission has rows of studies: they are SIIM's."""
    return labels.of_siim if classified else tuple(names) == OPACITY


def _report(outcome: Outcome, submission: Path, seconds: float) -> None:
    """Print where the time went, what was skipped and what was written."""
    run, images = outcome.run, len(outcome.run.cases)
    studies = len({case.study_id for case in run.cases.images})
    made = f"predicted anew: {', '.join(run.fresh)}" if run.fresh else "no model was run"
    print(f"\n{images} images of {studies} studies in {seconds:.1f} s; {made}")
    total = sum(run.seconds.values())
    for step, taken in sorted(run.seconds.items(), key=lambda item: -item[1]):
        print(f"  {step:<10} {taken / images:8.4f} s per image  {taken / total:6.1%}")
    for line in report_files(outcome):
        print(line)
    if outcome.studies is None and run.classes.names == OPACITY:
        print("no study classifier is configured: every study got the row 'negative 1 0 0 1 1'")
    if outcome.studies is not None and not outcome.study_labels.of_siim:
        classes = ", ".join(outcome.study_labels.names)
        print(f"the submission has no rows of studies, which are of SIIM's classes there; here they are of {classes}")
    if outcome.studies is not None:
        print(f"probabilities of studies: {run.folder / STUDY_TABLE}")
    print(f"submission: {submission}")


def _report_structured(outcome: Outcome, request: Request) -> None:
    written, skipped = write_reports(outcome, str(request.sr), request.sr_threshold, request.sr_deidentify)
    print(f"{written} Structured Reports: {request.sr}")
    if skipped:
        print(f"{len(skipped)} studies have none:")
        for line in skipped[:_LISTED]:
            print(f"  {line}")
