"""Detectors and their ensemble against the truth of a folder, at thresholds that validation chose."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from covidmm.datasets.image_folders import ImageFolder, read_image_folder
from covidmm.datasets.prepared_folder import data_digest
from covidmm.engine.checkpointing import checkpoint_files, trained_file
from covidmm.errors import DataError
from covidmm.evaluation.bootstrap import LEVEL, RESAMPLES
from covidmm.evaluation.classification import score_studies
from covidmm.evaluation.coco_dicts import coco_truth
from covidmm.evaluation.competition import labels_of, score_submission
from covidmm.evaluation.detection import score_detections
from covidmm.evaluation.detection_details import with_details
from covidmm.evaluation.metric_tables import format_comparison
from covidmm.evaluation.metrics_file import machine, write_metrics
from covidmm.findings import OPACITY
from covidmm.jobs.ensemble_pictures import draw_ensemble
from covidmm.jobs.folder_run import ENSEMBLE, FolderRun, Outcome, run_folder
from covidmm.jobs.folder_truth import Truth, read_truth, require_scorable, study_truth
from covidmm.models.checkpoints import stored_provenance, stored_val_metrics, temperature_in
from covidmm.outputs.kaggle import read_submission
from covidmm.outputs.predictions import Predictions
from covidmm.plugins import PluginManager
from covidmm.utils.fileio import json_bytes, json_value, write_bytes
from covidmm.utils.provenance import git_revision

OPERATING_FILE = "operating.json"
#: Said of thresholds that the scored images themselves chose.
SCORED = " (the scored images themselves chose them: optimistic)"


class Thresholds(NamedTuple):
    """Confidences at which precision, recall and F1 are taken.

    Attributes:
        common: by detector, one for all classes.
        per_class: by detector and class; empty where there is one class.
    """

    common: Mapping[str, float]
    per_class: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Operating:
    """Where the thresholds of a scoring come from: known before anything is predicted.

    Attributes:
        file: where they are kept, and read from where nothing is chosen.
        chosen_on: the validation images that choose them; None where they are read.
        thresholds: what was read: of each detector, and as ``per_class`` by detector and class.
        source: says it to people.
    """

    file: Path
    chosen_on: ImageFolder | None
    thresholds: Thresholds
    source: str


def plan_thresholds(run: FolderRun, source: str | None = None) -> Operating:
    """Find out where the thresholds of members and ensemble come from, before anything is predicted.

    They belong to models and fusion, not to the folder that is scored. In this order: what ``source`` names; the
    validation split of the folder itself, where the models were trained on that folder; an earlier run's
    ``operating.json``; the folder's own validation split, though the models were trained elsewhere, which is said.

    Args:
        run: the ensemble and the folder to score.
        source: a prepared folder whose validation split chooses them, or an ``operating.json``.

    Raises:
        CovidmmError: there are none, or they are of other models.
    """
    file = run.folder.parent / OPERATING_FILE
    keys = run.cache_keys()
    if source is not None and not Path(source).exists():
        raise DataError(f"--thresholds-from: {source}: no such folder or file")
    if source is not None and not Path(source).is_dir():
        return _stored(file, Path(source), keys)
    if source is not None:
        return _on_validation(run, file, Path(source), SCORED if _same_images(run, Path(source)) else "")
    own = run.cases.annotations is not None and run.cases.annotations.with_name("val.json").is_file()
    if own and run.cases.split != "val" and _is_home(run):
        return _on_validation(run, file, run.cases.source)
    if file.is_file() or not own or run.cases.split == "val":
        return _stored(file, file, keys)
    note = ", on which no member was trained; --thresholds-from names the folder of the training"
    return _on_validation(run, file, run.cases.source, note)


def _same_images(run: FolderRun, folder: Path) -> bool:
    """Whether the folder's validation images are those that are scored."""
    return read_image_folder(folder, "val").sha256 == run.cases.sha256


def _stored(file: Path, path: Path, keys: Mapping[str, Mapping[str, Any]]) -> Operating:
    thresholds = stored_thresholds(path, keys)
    scored = json_value(path.read_text())["made_from"] == json.loads(json.dumps(keys))
    return Operating(file, None, thresholds, f"{path}{SCORED if scored else ''}")


def _on_validation(run: FolderRun, file: Path, folder: Path, note: str = "") -> Operating:
    cases = read_image_folder(folder, "val")
    require_scorable(cases, run.classes.names)
    return Operating(file, cases, Thresholds({}, {}), f"the {len(cases)} validation images of {folder}{note}")


def _is_home(run: FolderRun) -> bool:
    """Whether a member was trained on the folder; also where no checkpoint says what it was trained on."""
    members = run.config.members.values()
    origins = [stored_provenance(trained_file(one.checkpoint)) for one in members]
    known = {digest for one in origins for digest in one.get("data_sha256_of_each", [one.get("data_sha256")])}
    return None in known or data_digest(run.cases.source) in known


def score_outcome(
    outcome: Outcome,
    manager: PluginManager,
    operating: Operating,
    submission: Path,
    metrics: Path,
    show_dir: str | None = None,
) -> dict[str, Any]:
    """Score members, ensemble, studies and submission; print the table, write ``metrics.json`` and the pictures.

    Args:
        outcome: the folder, predicted and fused.
        manager: builds the plugins for validation images.
        operating: of :func:`plan_thresholds`. Thresholds that are chosen are kept in its file.
        submission: of the outcome.
        metrics: the file to write.
        show_dir: folder of pictures; None for none.

    Raises:
        DataError: no labels, or labels that do not fit.
    """
    run = outcome.run
    names = run.classes.names
    truth = read_truth(run.cases, names)
    thresholds = operating.thresholds
    print(f"\nthresholds: {'chosen on' if operating.chosen_on else 'from'} {operating.source}")
    if (cases := operating.chosen_on) is not None:
        folder = run.folder.parent / ("val" if cases.source == run.cases.source else f"val_{cases.sha256[:8]}")
        val = run_folder(FolderRun(run.config, cases, folder, mapping=run.mapping), manager)
        thresholds = choose_thresholds(
            operating.file, val.detectors, read_truth(cases, names), str(cases.source), names
        )
    print("  " + ", ".join(f"{name} {value:.3f}" for name, value in thresholds.common.items()))
    for name, own in thresholds.per_class.items():
        print(f"  {name}: " + ", ".join(f"{one} {value:.3f}" for one, value in own.items()))
    for path in () if outcome.study_labels.multi_label else checkpoint_files(run.config.study):
        value = temperature_in(stored_val_metrics(path))
        told = "none in its checkpoint, 1 is taken" if value is None else f"{value:.3f}, of its validation"
        print(f"temperature of the study classifier {path}: {told}")
    detectors = score_each(outcome.detectors, truth, thresholds, with_intervals=True, classes=names)
    for name, one in outcome.detectors.items():
        detectors[name]["unreadable"] = sum(bool(image.error) for image in one.images)
        detectors[name]["threshold_source"] = operating.source
    found: dict[str, Any] = {"detectors": detectors}
    if outcome.studies is not None:
        classes = study_truth(run.cases, truth, outcome.study_labels)
        if classes.keys() & outcome.studies.keys():
            found["study"] = score_studies(classes, outcome.studies, outcome.study_labels)
    if names == OPACITY and outcome.study_labels.of_siim and any(image.study_class for image in truth.values()):
        labels = labels_of([truth[case.image_id] for case in run.cases.images], str(run.cases.source))
        rows = read_submission(submission)
        found["competition"] = score_submission(labels, rows, submission, with_intervals=True)
    print(f"\n{format_comparison(found, len({image.study_id for image in truth.values()}))}")
    # what an earlier run with another study classifier scored is not this one's
    write_metrics(metrics, **({"study": None, "competition": None} | found), provenance={ENSEMBLE: provenance(outcome)})
    print(f"metrics: {metrics}")
    if show_dir:
        draw_ensemble(Path(show_dir), outcome, truth, thresholds.common, thresholds.per_class, ENSEMBLE)
        print(f"pictures: {show_dir}")
    return found


def provenance(outcome: Outcome) -> dict[str, Any]:
    """What the ensemble's results came from, and on what machine."""
    return {
        **outcome.origin(),
        "bootstrap": {"resamples": RESAMPLES, "level": LEVEL, "over": "studies"},
        "machine": machine(),
        "git_revision": git_revision(),
    }


def ground_truth(predictions: Predictions, truth: Truth, classes: Sequence[str] = OPACITY) -> dict[str, Any]:
    """The truth of the images of a predictions file, as a COCO detection file in pixels of the originals."""
    images = [{"id": number, **image._asdict()} for number, image in enumerate(predictions.images, start=1)]
    return coco_truth(images, [truth[image.image_id].original_truth for image in predictions.images], classes)


def score_each(
    predictions: Mapping[str, Predictions],
    truth: Truth,
    thresholds: Thresholds | None,
    with_intervals: bool = False,
    classes: Sequence[str] = OPACITY,
) -> dict[str, dict[str, Any]]:
    """Detection metrics of every detector and the ensemble.

    Args:
        predictions: by name.
        truth: of the same images.
        thresholds: the confidence at which precision, recall and F1 are taken; None for the best F1 of these images.
        with_intervals: add what :func:`~covidmm.evaluation.detection_details.with_details` does.
        classes: what the labels stand for.

    Raises:
        DataError: no image has a box, or a file of predictions is damaged.
    """
    scored = {}
    for name, one in predictions.items():
        try:
            found = json_value(one.path.read_text())
            common = None if thresholds is None else thresholds.common[name]
            per_class = None if thresholds is None else thresholds.per_class.get(name)
            document = ground_truth(one, truth, classes)
            scored[name] = score_detections(document, found, common, per_class)
            if with_intervals:
                scored[name] = with_details(scored[name], document, found)
        except (ValueError, DataError) as error:
            raise DataError(f"{one.path}: {error}") from error
    return scored


def choose_thresholds(
    path: Path,
    predictions: Mapping[str, Predictions],
    truth: Truth,
    source: str = "",
    classes: Sequence[str] = OPACITY,
) -> Thresholds:
    """The thresholds of greatest F1 on the validation split of a folder, also written to ``operating.json``.

    A class of which nothing was found there has none of its own.
    """
    scored = score_each(predictions, truth, None, classes=classes)
    chosen = {name: found["best_f1_threshold"] for name, found in scored.items()}
    per_class = {
        name: {one: own["best_f1_threshold"] for one, own in found["per_class"].items() if own.get("best_f1")}
        for name, found in scored.items()
        if "per_class" in found
    }
    fingerprints = {name: one.fingerprint for name, one in predictions.items()}
    content = {"thresholds": chosen, "chosen_on": "validation", "folder": source, "made_from": fingerprints}
    write_bytes(path, json_bytes(content | ({"per_class": per_class} if per_class else {}), indent=2))
    return Thresholds(chosen, per_class)


def stored_thresholds(path: Path, keys: Mapping[str, Mapping[str, Any]]) -> Thresholds:
    """The thresholds of an earlier validation with the same models and the same fusion.

    Args:
        path: an ``operating.json``.
        keys: what decides the predictions, by detector.

    Raises:
        DataError: there are none, or they are of other models.
    """
    advice = (
        "score the prepared folder first: its validation split chooses them; or name it: --thresholds-from PREPARED"
    )
    try:
        content = json_value(path.read_text())
        thresholds, fingerprints = dict(content["thresholds"]), dict(content["made_from"])
        per_class = {name: dict(own) for name, own in content.get("per_class", {}).items()}
    except FileNotFoundError:
        raise DataError(f"{path}: no thresholds yet; {advice}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: damaged ({error!r}); {advice}") from error
    for name, key in keys.items():
        if _without_data(fingerprints.get(name)) != _without_data(json.loads(json.dumps(key))):
            raise DataError(f"{path}: the threshold of '{name}' is of another model or fusion; {advice}")
        if not isinstance(thresholds.get(name), int | float):
            raise DataError(f"{path}: damaged (no threshold of '{name}'); {advice}")
        if not all(isinstance(value, int | float) for value in per_class.get(name, {}).values()):
            raise DataError(f"{path}: damaged (thresholds of the classes of '{name}'); {advice}")
    return Thresholds(thresholds, per_class)


def _without_data(fingerprint: Any) -> Any:
    """A fingerprint of predictions without the hash of the images."""
    if not isinstance(fingerprint, Mapping):
        return fingerprint
    return {key: _without_data(value) for key, value in fingerprint.items() if key != "data_sha256"}
