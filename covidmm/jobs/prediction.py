"""Detectors and a study classifier over a whole folder, into files: nothing is made twice."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from covidmm.datasets.image_folders import ImageFolder
from covidmm.ensembles.ensemble_config import EnsembleConfig
from covidmm.errors import DataError
from covidmm.inference.detector import made_from
from covidmm.jobs.network_work import Batch, Classifying, Detecting, StudyJob, timed
from covidmm.outputs.predictions import BatchJournal, Predictions, PredictionsWriter, read_predictions
from covidmm.plugins import PluginManager
from covidmm.utils.fileio import json_bytes, json_value, write_bytes
from covidmm.utils.pool import Mapper

STUDY_FILE = "study"


@dataclass
class FolderRun:
    """One ensemble over one folder.

    Attributes:
        config: the ensemble.
        cases: the images.
        folder: where the predictions are kept.
        seconds: time spent per step, over the whole run.
        fresh: what was predicted in this run rather than read from files.
        mapping: runs the networks on batch after batch, in order: Python's own ``map`` for this process.
    """

    config: EnsembleConfig
    cases: ImageFolder
    folder: Path
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    fresh: list[str] = field(default_factory=list)
    mapping: Mapper = map

    def timed(self, step: str) -> AbstractContextManager[None]:
        """Add the time of a block to a step's seconds."""
        return timed(self.seconds, step)

    def add(self, seconds: Mapping[str, float]) -> None:
        """Add what other steps took, wherever they ran."""
        for step, taken in seconds.items():
            self.seconds[step] += taken

    def stamp(self, own: Mapping[str, Any]) -> dict[str, Any]:
        """What decides predictions: the model's part, and the images'."""
        return {**own, "data_sha256": self.cases.sha256, "max_size": self.config.max_size}


def predict_members(run: FolderRun) -> dict[str, Predictions]:
    """The predictions of every member: read where they are there and still true, made otherwise.

    A killed run goes on with the batch at which it stopped.

    Raises:
        CovidmmError: a config, checkpoint or file of predictions that cannot be used.
    """
    ready: dict[str, Predictions] = {}
    missing: dict[str, dict[str, Any]] = {}
    for name, member in run.config.members.items():
        stamp = run.stamp(made_from(member))
        found = read_predictions(run.folder, name)
        if found is not None and found.fingerprint == stamp:
            ready[name] = found
            continue
        missing[name] = stamp
        if found is not None:
            changed = [key for key in stamp if found.fingerprint.get(key) != stamp[key]]
            print(f"{found.path}: out of date ({', '.join(changed)} changed), predicting again")
    if missing:
        ready |= _predict(run, missing)
        run.fresh += missing
    return {name: ready[name] for name in run.config.members}


def _predict(run: FolderRun, missing: Mapping[str, Mapping[str, Any]]) -> dict[str, Predictions]:
    with ExitStack() as stack:
        writers = {
            name: stack.enter_context(PredictionsWriter(run.folder, name, stamp)) for name, stamp in missing.items()
        }
        start = min(writer.done for writer in writers.values())
        size = run.config.batch_size
        firsts = range(start - start % size, len(run.cases), size)
        # known before the first is asked for: what one batch adds to a member's file leaves the others' as they are
        done = {name: writer.done for name, writer in writers.items()}
        jobs = (
            Batch(batch, [name for name, number in done.items() if number < first + len(batch)])
            for first in firsts
            for batch in [run.cases.images[first : first + size]]
        )
        work = Detecting({name: run.config.members[name] for name in missing}, run.config.max_size)
        label = f"predicting with {', '.join(missing)}"
        bar = tqdm(total=len(run.cases), initial=start, desc=label, unit="image", disable=None)
        with bar, _how_to_go_on(bar):
            for first, result in zip(firsts, run.mapping(work, jobs), strict=True):
                run.add(result.seconds)
                for name, found in result.found.items():
                    with run.timed("write"):
                        writers[name].add(list(zip(result.entries, found, strict=True))[writers[name].done - first :])
                bar.update(first + len(result.entries) - bar.n)
        with run.timed("write"):
            return {name: writer.finish() for name, writer in writers.items()}


@contextmanager
def _how_to_go_on(bar: tqdm) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        bar.close()
        print(f"stopped: {bar.n} of {bar.total} images predicted", file=sys.stderr)
        raise


def classify_studies(
    run: FolderRun, manager: PluginManager, fused: Predictions, stamp: Mapping[str, Any]
) -> dict[str, list[float]] | None:
    """Probabilities per study, None where the config asks no classifier.

    Args:
        run: the ensemble and its folder.
        manager: knows the classifiers.
        fused: the ensemble's boxes.
        stamp: what decided those.

    Returns:
        Study id to four probabilities; a study without a readable image is left out.

    Raises:
        CovidmmError: an unknown classifier, or one that cannot be used or answers with no probabilities.
    """
    if run.config.study is None:
        return None
    work = Classifying(run.config.study, run.config.max_size, manager.build_study_classifier)
    own: dict[str, Any] = {"classifier": _named(run.config.study)}
    if getattr(work.classifier, "uses_detections", True):
        own["ensemble"] = dict(stamp)
    made = run.stamp(own)
    path = run.folder / f"{STUDY_FILE}.json"
    known = _read_studies(path)
    if known is not None and known["made_from"] == json.loads(json.dumps(made)):
        _require_whole(path, known["studies"], fused)
        return known["studies"]
    if known is not None:
        print(f"{path}: out of date, classifying again")
    run.fresh.append(STUDY_FILE)
    with BatchJournal(path.with_suffix(".part"), made) as journal:
        _classify(run, work, fused, journal)
        studies = {study: values for study, values in journal.items() if values is not None}
        write_bytes(path, json_bytes({"made_from": made, "studies": studies}))
        journal.path.unlink()
    return studies


def _classify(run: FolderRun, work: Classifying, fused: Predictions, journal: BatchJournal) -> None:
    boxes = iter(fused)
    all_jobs = (StudyJob(study_id, cases, [next(boxes) for _ in cases]) for study_id, cases in run.cases.studies())
    total, done = sum(1 for _ in run.cases.studies()), journal.done
    jobs = islice(all_jobs, done, None)
    with tqdm(total=total, initial=done, desc="classifying", unit="study", disable=None) as bar:
        for result in run.mapping(work, jobs):
            run.add(result.seconds)
            journal.append([[result.study_id, result.values]])
            bar.update()


def _read_studies(path: Path) -> dict[str, Any] | None:
    try:
        content = json_value(path.read_text())
        return {"made_from": content["made_from"], "studies": content["studies"]}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: damaged ({error!r}); remove it to classify again") from error


def _require_whole(path: Path, studies: Any, fused: Predictions) -> None:
    readable = {image.study_id for image in fused.images if not image.error}
    if not isinstance(studies, dict) or studies.keys() != readable or not all(map(_is_answer, studies.values())):
        raise DataError(f"{path}: damaged (not four probabilities of every study); remove it to classify again")


def _is_answer(values: Any) -> bool:
    return (
        isinstance(values, list)
        and len(values) == 4
        and all(isinstance(v, int | float) and 0 <= v <= 1 for v in values)
    )


def _named(config: Any) -> Any:
    """A plugin's config with the hash of every checkpoint that it names."""
    from covidmm.engine.checkpointing import trained_file
    from covidmm.utils.provenance import sha256

    if isinstance(config, Mapping):
        named = {key: _named(value) for key, value in config.items()}
        if isinstance(config.get("checkpoint"), str):
            named["checkpoint_sha256"] = sha256(trained_file(config["checkpoint"]))
        return named
    if isinstance(config, list | tuple):
        return [_named(value) for value in config]
    return config
