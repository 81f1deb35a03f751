"""An ensemble over a folder: members predict, boxes are fused, studies classified, all into files that are reused."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from covidmm.datasets.image_folders import ImageFolder
from covidmm.engine.checkpointing import checkpoint_hashes
from covidmm.ensembles.ensemble_config import EnsembleConfig, Member
from covidmm.errors import DataError
from covidmm.findings import Detections, StudyLabels
from covidmm.inference.core import Batch, Classifying, Detecting, StudyJob, fuse, timed
from covidmm.inference.detector import fingerprint
from covidmm.inference.ensemble_classes import EnsembleClasses
from covidmm.inference.mapping import map_here
from covidmm.jobs.folder_gate import FUSION, FolderGate, gate_key
from covidmm.jobs.study_answers import read_answers, require_whole, with_checkpoints
from covidmm.outputs.predictions import ImageEntry, Predictions, PredictionsWriter, read_predictions
from covidmm.plugins import EnsembleStrategy, PluginManager, StudyClassifier
from covidmm.utils.fileio import json_bytes, write_bytes
from covidmm.utils.journal import Journal
from covidmm.utils.pool import Mapper
from covidmm.utils.provenance import sha256, versions

#: Names of files beside the members' predictions.
ENSEMBLE, STUDY = "ensemble", "study"
#: What a hash of a folder is of. The bytes of a raw one would have to be read a second time.
_PREPARED = "annotations of the split, and grey values"
_FILES_AS_LISTED = "names, sizes and times of change of the files"
#: Images whose fused boxes are written at once.
_FUSED_AT_ONCE = 64


@dataclass
class FolderRun:
    """One ensemble over one folder.

    Attributes:
        config: the ensemble.
        cases: the images.
        folder: where the predictions are kept.
        seconds: time spent per step, over the whole run.
        fresh: what was predicted in this run rather than read from files.
        mapping: runs the networks on batch after batch, in order.
    """

    config: EnsembleConfig
    cases: ImageFolder
    folder: Path
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    fresh: list[str] = field(default_factory=list)
    mapping: Mapper = map_here

    @cached_property
    def classes(self) -> EnsembleClasses:
        """What the ensemble finds.

        Raises:
            CovidmmError: a config or checkpoint that cannot be used, or members whose classes do not fit.
        """
        return EnsembleClasses.of(self.config)

    def timed(self, step: str) -> AbstractContextManager[None]:
        """Add the time of a block to a step's seconds."""
        return timed(self.seconds, step)

    def add(self, seconds: Mapping[str, float]) -> None:
        """Add what other steps took, wherever they ran."""
        for step, taken in seconds.items():
            self.seconds[step] += taken

    def cache_key(self, own: Mapping[str, Any]) -> dict[str, Any]:
        """What decides predictions: the model's part, and the images'."""
        config = self.config
        return {
            **own,
            "data_sha256": self.cases.sha256,
            "max_size": config.max_size,
            "accepts": {name: list(values) for name, values in asdict(config.accepts).items()},
        }

    def fusion_key(self, members: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """What decides the fused boxes, given what decides the members' predictions."""
        parts = {name: {**_without_map(self.config.members[name]), **own} for name, own in members.items()}
        rest = self.classes.key(None, "") | gate_key(self.config)
        return {"strategy": dict(self.config.strategy), "members": parts, **rest}

    def cache_keys(self) -> dict[str, dict[str, Any]]:
        """What decides the predictions of each member and of the ensemble, before anything is predicted.

        Raises:
            CovidmmError: a config or checkpoint that cannot be used.
        """
        members = {name: self.member_key(name) for name in self.config.members}
        return {**members, ENSEMBLE: self.fusion_key(members)}

    def member_key(self, name: str) -> dict[str, Any]:
        """What decides a member's predictions."""
        member = self.config.members[name]
        return self.cache_key({**fingerprint(member), **self.classes.key(member, name)})


@dataclass
class Outcome:
    """One folder, predicted and fused.

    Attributes:
        run: the ensemble and its folder.
        members: what each detector predicted.
        fused: what the ensemble makes of it.
        studies: probabilities by study, None without a classifier; studies without a readable image are left out.
        study_labels: what they stand for.
    """

    run: FolderRun
    members: Mapping[str, Predictions]
    fused: Predictions
    studies: Mapping[str, list[float]] | None
    study_labels: StudyLabels = field(default_factory=StudyLabels)

    @property
    def detectors(self) -> dict[str, Predictions]:
        """Members and ensemble by name."""
        return {**self.members, ENSEMBLE: self.fused}

    def origin(self) -> dict[str, Any]:
        """What the findings came from: config, models, data, versions; the same for the same command."""
        config, cases = self.run.config, self.run.cases
        return {
            "config": str(config.path),
            "config_sha256": sha256(config.path),
            "config_resolved_sha256": config.sha256,
            "strategy": dict(config.strategy),
            "members": {name: dict(one.fingerprint) for name, one in self.members.items()},
            "study": config.study,
            "study_checkpoints_sha256": checkpoint_hashes(config.study),
            **gate_key(config),
            "data": str(cases.source),
            "data_sha256": cases.sha256,
            "data_sha256_covers": _FILES_AS_LISTED if cases.annotations is None else _PREPARED,
            "versions": versions(),
        }


def run_folder(run: FolderRun, manager: PluginManager) -> Outcome:
    """Predict, fuse and classify one folder.

    Raises:
        CovidmmError: a config, checkpoint, image folder or plugin that cannot be used; before anything is predicted.
    """
    strategy = run.config.build_strategy(manager)
    classifier = run.config.build_classifier(manager, run.classes.names)
    run.classes.require_fits(strategy)
    gate = FolderGate.of(run, manager, classifier)
    members = predict_members(run)
    fused = fuse_folder(gate.before, strategy, members, FUSION) if gate else fuse_folder(run, strategy, members)
    if all(image.error for image in fused.images):
        raise DataError(f"{run.cases.source}: no image can be used, the first: {fused.images[0].error}")
    studies = classify_studies(run, classifier, fused)
    fused = gate(fused, studies, classify_studies, ENSEMBLE) if gate else fused
    return Outcome(run, members, fused, studies, StudyLabels.of(classifier))


def predict_members(run: FolderRun) -> dict[str, Predictions]:
    """The predictions of every member: read from files of the same fingerprint, made where there are none.

    A killed run is resumed from the batch at which it stopped.

    Raises:
        CovidmmError: a config, checkpoint or file of predictions that cannot be used.
    """
    ready: dict[str, Predictions] = {}
    missing: dict[str, dict[str, Any]] = {}
    for name in run.config.members:
        cache_key = run.member_key(name)
        found = read_predictions(run.folder, name)
        if found is not None and found.fingerprint == cache_key:
            ready[name] = found
            continue
        missing[name] = cache_key
        if found is not None:
            changed = [key for key in cache_key if found.fingerprint.get(key) != cache_key[key]]
            print(f"{found.path}: out of date ({', '.join(changed)} changed), predicting again")
    if missing:
        ready |= _predict(run, missing)
        run.fresh += missing
    return {name: ready[name] for name in run.config.members}


def _predict(run: FolderRun, missing: Mapping[str, Mapping[str, Any]]) -> dict[str, Predictions]:
    with ExitStack() as stack:
        writers = {name: stack.enter_context(PredictionsWriter(run.folder, name, key)) for name, key in missing.items()}
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
        config = run.config
        own_members = {name: config.members[name] for name in missing}
        work = Detecting(own_members, config.max_size, accepts=config.accepts, classes=run.classes)
        label = f"predicting with {', '.join(missing)}"
        with tqdm(total=len(run.cases), initial=start, desc=label, unit="image", disable=None) as bar:
            try:
                for first, result in zip(firsts, run.mapping(work, jobs), strict=True):
                    run.add(result.seconds)
                    for name, found in result.found.items():
                        own = list(zip(result.entries, found, strict=True))[writers[name].done - first :]
                        with run.timed("write"):
                            writers[name].add(own)
                    bar.update(first + len(result.entries) - bar.n)
            except KeyboardInterrupt:
                bar.close()
                # not the bar's number: without a terminal it counts nothing
                done_now = min(writer.done for writer in writers.values())
                print(f"stopped: {done_now} of {len(run.cases)} images predicted", file=sys.stderr)
                raise
        with run.timed("write"):
            return {name: writer.finish() for name, writer in writers.items()}


def fuse_folder(
    run: FolderRun, strategy: EnsembleStrategy, members: Mapping[str, Predictions], name: str = ENSEMBLE
) -> Predictions:
    """Fuse the members' predictions; no model is run, and memory does not grow with the folder.

    Raises:
        DataError: members that cover other images, or a file of predictions that is damaged.
        PluginError: a strategy that fails, or whose answer is no set of boxes.
    """
    cache_key = run.fusion_key({name: found.fingerprint for name, found in members.items()})
    with PredictionsWriter(run.folder, name, cache_key, resume=False) as writer:
        pairs = _fused(run, strategy, members)
        while batch := list(islice(pairs, _FUSED_AT_ONCE)):
            with run.timed("write"):
                writer.add(batch)
        with run.timed("write"):
            return writer.finish()


def _fused(
    run: FolderRun, strategy: EnsembleStrategy, members: Mapping[str, Predictions]
) -> Iterator[tuple[ImageEntry, Detections]]:
    for image, found in joined(members):
        if image.error:
            yield image, Detections.none()
            continue
        with run.timed("fusion"):
            result = fuse(strategy, run.config.members, image, found, run.classes)
        yield image, result


def _without_map(member: Member) -> dict[str, Any]:
    """A member's config without an empty ``class_map``, which changes nothing."""
    return {key: value for key, value in asdict(member).items() if key != "class_map" or value is not None}


def joined(members: Mapping[str, Predictions]) -> Iterator[tuple[ImageEntry, dict[str, Detections]]]:
    """Each image with the boxes of every member.

    Raises:
        DataError: members that cover other images.
    """
    first, *others = members.values()
    for other in others:
        _require_same_images(first, other)
    for rows in zip(*members.values(), strict=True):
        yield rows[0][0], {name: found for name, (_, found) in zip(members, rows, strict=True)}


def _require_same_images(first: Predictions, other: Predictions) -> None:
    mine, theirs = ([(image.image_id, image.height, image.width) for image in one.images] for one in (first, other))
    if mine == theirs:
        return
    missing = sorted({entry[0] for entry in mine} - {entry[0] for entry in theirs})
    strange = sorted({entry[0] for entry in theirs} - {entry[0] for entry in mine})
    for ids, without, with_ in ((missing, other, first), (strange, first, other)):
        if ids:
            raise DataError(
                f"{without.path}: lacks {len(ids)} of the images of {with_.path}, such as '{ids[0]}'; "
                "remove the file to predict again"
            )
    raise DataError(f"{other.path}: has the images of {first.path} in another order or size")


def classify_studies(
    run: FolderRun, classifier: StudyClassifier | None, fused: Predictions
) -> dict[str, list[float]] | None:
    """Probabilities per study, None where there is no classifier.

    Args:
        run: the ensemble and its folder.
        classifier: what its config asks for.
        fused: the ensemble's boxes.

    Returns:
        Study id to the probabilities of its classes; a study without a readable image is left out.

    Raises:
        CovidmmError: a classifier that fails or answers with no probabilities; a damaged file of an earlier run.
    """
    if classifier is None:
        return None
    own: dict[str, Any] = {"classifier": with_checkpoints(run.config.study)}
    if getattr(classifier, "uses_detections", True):
        own["ensemble"] = dict(fused.fingerprint)
    labels = StudyLabels.of(classifier)
    cache_key = run.cache_key(own | labels.to_json())
    path = run.folder / f"{STUDY}.json"
    known = read_answers(path)
    if known is not None and known["made_from"] == json.loads(json.dumps(cache_key)):
        require_whole(path, known["studies"], fused, len(labels.names))
        return known["studies"]
    if known is not None:
        print(f"{path}: out of date, classifying again")
    run.fresh.append(STUDY)
    with Journal(path.with_suffix(".part"), cache_key) as journal:
        work = Classifying(run.config.study, run.config.max_size, classifier, run.classes.names)
        _classify(run, work, fused, journal)
        studies = {study: values for study, values in journal.items() if values is not None}
        write_bytes(path, json_bytes({"made_from": cache_key, "studies": studies}))
        journal.remove()
    return studies


def _classify(run: FolderRun, work: Classifying, fused: Predictions, journal: Journal) -> None:
    boxes = iter(fused)
    all_jobs = (StudyJob(study_id, cases, [next(boxes) for _ in cases]) for study_id, cases in run.cases.studies())
    total, done = sum(1 for _ in run.cases.studies()), journal.done
    with tqdm(total=total, initial=done, desc="classifying", unit="study", disable=None) as bar:
        for result in run.mapping(work, islice(all_jobs, done, None)):
            run.add(result.seconds)
            values = None if result.values is None else [round(value, 6) for value in result.values.tolist()]
            journal.append([[result.study_id, values]])
            bar.update()
