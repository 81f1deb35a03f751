"""Detectors and their ensemble against the truth of a folder, at thresholds that validation chose."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from covidmm.datasets.image_folders import read_image_folder
from covidmm.errors import DataError
from covidmm.evaluation.bootstrap import LEVEL, RESAMPLES, intervals
from covidmm.evaluation.coco_eval import coco_matches
from covidmm.evaluation.comparison_table import format_comparison
from covidmm.evaluation.competition import labels_of, score_submission
from covidmm.evaluation.detection import IOU_THRESHOLD, match, score_detections
from covidmm.evaluation.metrics_file import write_metrics
from covidmm.evaluation.ranking import Ranking, detection_statistic
from covidmm.evaluation.study_scores import score_studies
from covidmm.jobs.ensemble_pictures import draw_ensemble
from covidmm.jobs.folder_outcome import Outcome, run_folder
from covidmm.jobs.folder_truth import Truth, read_truth
from covidmm.jobs.fusion import ENSEMBLE
from covidmm.jobs.prediction import FolderRun
from covidmm.outputs.kaggle import read_submission
from covidmm.outputs.predictions import Predictions
from covidmm.plugins import PluginManager
from covidmm.utils.fileio import json_bytes, json_value, write_bytes

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
    detectors = score_each(outcome.detectors, truth, thresholds)
    for name, ends in detector_intervals(outcome.detectors, truth, thresholds).items():
        detectors[name] |= {f"{key}_interval": list(pair) for key, pair in ends.items()}
        detectors[name]["unreadable"] = sum(bool(image.error) for image in outcome.detectors[name].images)
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


def detector_intervals(
    predictions: Mapping[str, Predictions], truth: Truth, thresholds: Mapping[str, float]
) -> dict[str, dict[str, tuple[float, float]]]:
    """Intervals over studies of mAP@.50, precision, recall and F1 of every detector, from the same draws."""
    found = {}
    for name, one in predictions.items():
        studies = {study: number for number, study in enumerate(dict.fromkeys(i.study_id for i in one.images))}
        rankings = _ranking(one, truth, studies), _coco_ranking(one, truth, studies)
        found[name] = intervals(detection_statistic(*rankings, thresholds[name]), len(studies))
    return found


def _ranking(predictions: Predictions, truth: Truth, studies: Mapping[str, int]) -> Ranking:
    scores, hits, truths, clusters = [], [], [], []
    for image, found in predictions:
        boxes = truth[image.image_id].original_boxes
        scores.append(found.scores)
        hits.append(match(found.boxes, found.scores, boxes))
        truths.append(len(boxes))
        clusters.append(studies[image.study_id])
    return Ranking.of(scores, hits, truths, clusters, len(studies))


def _coco_ranking(predictions: Predictions, truth: Truth, studies: Mapping[str, int]) -> Ranking:
    """The predictions as COCOeval matches and ranks them, so that the interval is that of the number in the table."""
    found = coco_matches(ground_truth(predictions, truth), json_value(predictions.path.read_text()), IOU_THRESHOLD)
    nothing = np.zeros(0), np.zeros(0, bool)
    scores, hits = zip(*(found.get(k, nothing) for k in range(1, len(predictions.images) + 1)), strict=True)
    truths = [len(truth[image.image_id].original_boxes) for image in predictions.images]
    clusters = [studies[image.study_id] for image in predictions.images]
    return Ranking.of(scores, hits, truths, clusters, len(studies), group_ties=False)


def provenance(outcome: Outcome) -> dict[str, Any]:
    """What the ensemble's results came from, and on what machine."""
    from covidmm.evaluation.metrics_file import machine
    from covidmm.utils.provenance import git_revision

    return {
        **outcome.origin(),
        "bootstrap": {"resamples": RESAMPLES, "level": LEVEL, "over": "studies"},
        "machine": machine(),
        "git_revision": git_revision(),
    }


def ground_truth(predictions: Predictions, truth: Truth) -> dict[str, Any]:
    """The truth of the images of a predictions file, as a COCO detection file in pixels of the originals."""
    annotations = []
    for number, image in enumerate(predictions.images, start=1):
        for x1, y1, x2, y2 in truth[image.image_id].original_boxes.tolist():
            box = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0}
            annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": 1, **box})
    images = [
        {"id": number, "height": image.height, "width": image.width, "image_id": image.image_id}
        for number, image in enumerate(predictions.images, start=1)
    ]
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "opacity"}]}


def score_each(
    predictions: Mapping[str, Predictions], truth: Truth, thresholds: Mapping[str, float | None]
) -> dict[str, dict[str, Any]]:
    """Detection metrics of every detector and the ensemble.

    Args:
        predictions: by name.
        truth: of the same images.
        thresholds: the confidence at which precision, recall and F1 are taken; None for the best F1 of these images.

    Raises:
        DataError: no image has a box, or a file of predictions is damaged.
    """
    return {name: _score(one, truth, thresholds[name]) for name, one in predictions.items()}


def _score(predictions: Predictions, truth: Truth, threshold: float | None) -> dict[str, Any]:
    try:
        found = json_value(predictions.path.read_text())
        return score_detections(ground_truth(predictions, truth), found, threshold)
    except (ValueError, DataError) as error:
        raise DataError(f"{predictions.path}: {error}") from error


def choose_thresholds(path: Path, predictions: Mapping[str, Predictions], truth: Truth) -> dict[str, float]:
    """The thresholds of greatest F1 on a validation split, also written to ``operating.json``."""
    chosen = {
        name: found["best_f1_threshold"]
        for name, found in score_each(predictions, truth, dict.fromkeys(predictions)).items()
    }
    made_from = {name: one.fingerprint for name, one in predictions.items()}
    write_bytes(path, json_bytes({"thresholds": chosen, "chosen_on": "validation", "made_from": made_from}, indent=2))
    return chosen


def stored_thresholds(path: Path, predictions: Mapping[str, Predictions]) -> dict[str, float]:
    """The thresholds of an earlier validation with the same models and the same fusion.

    Raises:
        DataError: there are none, or they are of other models.
    """
    advice = "score the prepared folder first: its validation split chooses them"
    try:
        content = json_value(path.read_text())
        thresholds, made_from = content["thresholds"], content["made_from"]
    except FileNotFoundError:
        raise DataError(f"{path}: no thresholds yet; {advice}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: damaged ({error!r}); {advice}") from error
    for name, one in predictions.items():
        if _without_data(made_from.get(name)) != _without_data(json.loads(json.dumps(dict(one.fingerprint)))):
            raise DataError(f"{path}: the threshold of '{name}' is of another model or fusion; {advice}")
    return thresholds


def _without_data(made_from: Any) -> Any:
    """What predictions were made from, the images aside."""
    if not isinstance(made_from, Mapping):
        return made_from
    return {key: _without_data(value) for key, value in made_from.items() if key != "data_sha256"}
