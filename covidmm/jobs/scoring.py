"""Detectors and their ensemble against the truth of a folder, at thresholds that validation chose."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from covidmm.datasets.image_folders import read_image_folder
from covidmm.errors import DataError
from covidmm.evaluation.bootstrap import LEVEL, RESAMPLES
from covidmm.evaluation.classification import score_studies
from covidmm.evaluation.coco_dicts import coco_truth
from covidmm.evaluation.competition import labels_of, score_submission
from covidmm.evaluation.detection import score_detections
from covidmm.evaluation.metric_tables import format_comparison
from covidmm.evaluation.metrics_file import machine, write_metrics
from covidmm.jobs.ensemble_pictures import draw_ensemble
from covidmm.jobs.folder_run import ENSEMBLE, FolderRun, Outcome, run_folder
from covidmm.jobs.folder_truth import Truth, read_truth
from covidmm.outputs.kaggle import read_submission
from covidmm.outputs.predictions import Predictions
from covidmm.plugins import PluginManager
from covidmm.utils.fileio import json_bytes, json_value, write_bytes
from covidmm.utils.provenance import git_revision

OPERATING_FILE = "operating.json"


def score_outcome(
    outcome: Outcome, manager: PluginManager, submission: Path, metrics: Path, show_dir: str | None = None
) -> dict[str, Any]:
    """Score members, ensemble, studies and submission; print the table, write ``metrics.json`` and the pictures.

    Thresholds are chosen on the validation split of a prepared folder, which is predicted for that, and kept in
    ``operating.json``; a raw folder takes them from there.

    Raises:
        DataError: no labels, no validation split and no thresholds, or labels that do not fit.
    """
    run = outcome.run
    truth = read_truth(run.cases)
    operating = run.folder.parent / OPERATING_FILE
    if run.cases.annotations is not None and run.cases.split != "val":
        cases = read_image_folder(run.cases.source, "val")
        print(f"\nthresholds: on the {len(cases)} images of the validation split")
        val = run_folder(FolderRun(run.config, cases, run.folder.parent / "val", mapping=run.mapping), manager)
        thresholds = choose_thresholds(operating, val.detectors, read_truth(cases))
    else:
        thresholds = stored_thresholds(operating, outcome.detectors)
    detectors = score_each(outcome.detectors, truth, thresholds, with_intervals=True)
    for name, one in outcome.detectors.items():
        detectors[name]["unreadable"] = sum(bool(image.error) for image in one.images)
    found: dict[str, Any] = {"detectors": detectors}
    classes = {image.study_id: image.study_class for image in truth.values() if image.study_class}
    if classes:
        if outcome.studies is not None:
            found["study"] = score_studies(classes, outcome.studies)
        labels = labels_of([truth[case.image_id] for case in run.cases.images], str(run.cases.source))
        found["competition"] = score_submission(labels, read_submission(submission), submission, with_intervals=True)
    print(f"\n{format_comparison(found, len({image.study_id for image in truth.values()}))}")
    write_metrics(metrics, **found, provenance={ENSEMBLE: provenance(outcome)})
    print(f"metrics: {metrics}")
    if show_dir:
        draw_ensemble(Path(show_dir), outcome, truth, thresholds, ENSEMBLE)
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


def ground_truth(predictions: Predictions, truth: Truth) -> dict[str, Any]:
    """The truth of the images of a predictions file, as a COCO detection file in pixels of the originals."""
    images = [{"id": number, **image._asdict()} for number, image in enumerate(predictions.images, start=1)]
    return coco_truth(images, [truth[image.image_id].original_truth for image in predictions.images])


def score_each(
    predictions: Mapping[str, Predictions],
    truth: Truth,
    thresholds: Mapping[str, float | None],
    with_intervals: bool = False,
) -> dict[str, dict[str, Any]]:
    """Detection metrics of every detector and the ensemble.

    Args:
        predictions: by name.
        truth: of the same images.
        thresholds: the confidence at which precision, recall and F1 are taken; None for the best F1 of these images.
        with_intervals: add intervals over studies of mAP@.50, precision, recall and F1, all from the same draws.

    Raises:
        DataError: no image has a box, or a file of predictions is damaged.
    """
    scored = {}
    for name, one in predictions.items():
        try:
            found = json_value(one.path.read_text())
            scored[name] = score_detections(ground_truth(one, truth), found, thresholds[name], with_intervals)
        except (ValueError, DataError) as error:
            raise DataError(f"{one.path}: {error}") from error
    return scored


def choose_thresholds(path: Path, predictions: Mapping[str, Predictions], truth: Truth) -> dict[str, float]:
    """The thresholds of greatest F1 on a validation split, also written to ``operating.json``."""
    chosen = {
        name: found["best_f1_threshold"]
        for name, found in score_each(predictions, truth, dict.fromkeys(predictions)).items()
    }
    fingerprints = {name: one.fingerprint for name, one in predictions.items()}
    content = {"thresholds": chosen, "chosen_on": "validation", "made_from": fingerprints}
    write_bytes(path, json_bytes(content, indent=2))
    return chosen


def stored_thresholds(path: Path, predictions: Mapping[str, Predictions]) -> dict[str, float]:
    """The thresholds of an earlier validation with the same models and the same fusion.

    Raises:
        DataError: there are none, or they are of other models.
    """
    advice = "score the prepared folder first: its validation split chooses them"
    try:
        content = json_value(path.read_text())
        thresholds, fingerprints = content["thresholds"], content["made_from"]
    except FileNotFoundError:
        raise DataError(f"{path}: no thresholds yet; {advice}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: damaged ({error!r}); {advice}") from error
    for name, one in predictions.items():
        if _without_data(fingerprints.get(name)) != _without_data(json.loads(json.dumps(dict(one.fingerprint)))):
            raise DataError(f"{path}: the threshold of '{name}' is of another model or fusion; {advice}")
    return thresholds


def _without_data(fingerprint: Any) -> Any:
    """A fingerprint of predictions without the hash of the images."""
    if not isinstance(fingerprint, Mapping):
        return fingerprint
    return {key: _without_data(value) for key, value in fingerprint.items() if key != "data_sha256"}
