"""Detectors and a study classifier over a whole folder, into files: nothing is made twice."""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from covidmm.atomic import json_bytes, write_bytes
from covidmm.datasets.cases import Case, CaseList
from covidmm.ensembles.config import EnsembleConfig
from covidmm.errors import DataError, RadiographError
from covidmm.findings import Detections, Study
from covidmm.inference.detector import Detector, made_from
from covidmm.plugins import PluginManager, StudyClassifier
from covidmm.predictions import BatchJournal, ImageEntry, Predictions, PredictionsWriter, read_predictions
from covidmm.radiograph import Radiograph

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
    """

    config: EnsembleConfig
    cases: CaseList
    folder: Path
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    fresh: list[str] = field(default_factory=list)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the time of a block to a step's seconds."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] += time.perf_counter() - start

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
        if found is not None and found.made_from == stamp:
            ready[name] = found
            continue
        missing[name] = stamp
        if found is not None:
            changed = [key for key in stamp if found.made_from.get(key) != stamp[key]]
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
        with run.timed("load"):
            detectors = {name: Detector(run.config.members[name], name) for name in missing}
        start = min(writer.done for writer in writers.values())
        size = run.config.batch_size
        label = f"predicting with {', '.join(missing)}"
        bar = tqdm(total=len(run.cases), initial=start, desc=label, unit="image", disable=None)
        with bar, _how_to_go_on(bar):
            for first in range(start - start % size, len(run.cases), size):
                batch = run.cases.cases[first : first + size]
                with run.timed("decode"):
                    entries, radiographs = read_all(batch, run.config.max_size)
                for name, writer in writers.items():
                    if writer.done < first + len(batch):
                        with run.timed(name):
                            found = _detect(detectors[name], radiographs)
                        with run.timed("write"):
                            writer.add(list(zip(entries, found, strict=True))[writer.done - first :])
                bar.update(first + len(batch) - bar.n)
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


def read_all(batch: Sequence[Case], max_size: int) -> tuple[list[ImageEntry], list[Radiograph | None]]:
    """Decode some images; one that cannot be read gets an entry that says why, and None."""
    entries, radiographs = [], []
    for case in batch:
        try:
            one = case.read().shrunk(max_size)
            entry = ImageEntry(case.image_id, case.study_id, one.header.height, one.header.width)
        except RadiographError as error:
            one, entry = None, ImageEntry(case.image_id, case.study_id, 0, 0, str(error))
        entries.append(entry)
        radiographs.append(one)
    return entries, radiographs


def _detect(detector: Detector, radiographs: Sequence[Radiograph | None]) -> list[Detections]:
    found = iter(detector([one for one in radiographs if one is not None]))
    return [Detections.none() if one is None else next(found) for one in radiographs]


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
    classifier = manager.build_study_classifier(run.config.study)
    own: dict[str, Any] = {"classifier": _named(run.config.study)}
    if getattr(classifier, "uses_detections", True):
        own["ensemble"] = dict(stamp)
    made = run.stamp(own)
    path = run.folder / f"{STUDY_FILE}.json"
    known = _read_studies(path)
    if known is not None and known["made_from"] == json.loads(json.dumps(made)):
        return known["studies"]
    if known is not None:
        print(f"{path}: out of date, classifying again")
    run.fresh.append(STUDY_FILE)
    with BatchJournal(path.with_suffix(".part"), made) as journal:
        _classify(run, classifier, fused, journal)
        studies = {study: values for study, values in journal.items() if values is not None}
        write_bytes(path, json_bytes({"made_from": made, "studies": studies}))
        journal.path.unlink()
    return studies


def _classify(run: FolderRun, classifier: StudyClassifier, fused: Predictions, journal: BatchJournal) -> None:
    pixels = getattr(classifier, "uses_pixels", True)
    boxes = iter(fused)
    studies = list(run.cases.studies())
    for number, (study_id, cases) in enumerate(tqdm(studies, desc="classifying", unit="study", disable=None)):
        found = [next(boxes) for _ in cases]
        if number < journal.done:
            continue
        with run.timed("decode"):
            readable = [
                (case.read().shrunk(run.config.max_size) if pixels else _blank(case, entry), detections)
                for case, (entry, detections) in zip(cases, found, strict=True)
                if entry.error is None
            ]
        with run.timed("study"):
            values = None
            if readable:
                radiographs, detections = zip(*readable, strict=True)
                values = _checked(classifier.classify(Study(study_id, radiographs, detections)), study_id)
        journal.append([[study_id, values]])


def _blank(case: Case, entry: ImageEntry) -> Radiograph:
    """A radiograph without pixels, for a classifier that looks at boxes alone."""
    from covidmm.radiograph import Header

    return Radiograph(Header(case.path, entry.height, entry.width), np.zeros((0, 0), np.uint8))


def _checked(values: Any, study_id: str) -> list[float]:
    values = np.asarray(values, np.float64)
    if values.shape != (4,) or not np.isfinite(values).all() or values.min() < 0 or abs(values.sum() - 1) > 1e-3:
        raise DataError(f"study '{study_id}': the study classifier answered {values.tolist()}, not four probabilities")
    return [round(value, 6) for value in values.tolist()]


def _read_studies(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text())
        return {"made_from": content["made_from"], "studies": content["studies"]}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: damaged ({error!r}); remove it to classify again") from error


def _named(config: Any) -> Any:
    """A plugin's config with the hash of every checkpoint that it names."""
    from covidmm.engine.checkpointing import trained_file
    from covidmm.evaluation.results import sha256

    if isinstance(config, Mapping):
        named = {key: _named(value) for key, value in config.items()}
        if isinstance(config.get("checkpoint"), str):
            named["checkpoint_sha256"] = sha256(trained_file(config["checkpoint"]))
        return named
    if isinstance(config, list | tuple):
        return [_named(value) for value in config]
    return config
