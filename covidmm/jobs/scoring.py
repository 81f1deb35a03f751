"""Detectors and their ensemble against the truth of a folder, at thresholds that validation chose."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from covidmm.atomic import json_bytes, write_bytes
from covidmm.errors import DataError
from covidmm.evaluation.detection import score_detections
from covidmm.jobs.truth import Truth
from covidmm.predictions import Predictions

OPERATING_FILE = "operating.json"


def ground_truth(predictions: Predictions, truth: Truth) -> dict[str, Any]:
    """The truth of the images of a predictions file, as a COCO detection file in pixels of the originals."""
    annotations = []
    for number, image in enumerate(predictions.images, start=1):
        for x1, y1, x2, y2 in truth.boxes[image.image_id].tolist():
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
    return {
        name: score_detections(ground_truth(one, truth), json.loads(one.path.read_text()), thresholds[name])
        for name, one in predictions.items()
    }


def choose_thresholds(path: Path, predictions: Mapping[str, Predictions], truth: Truth) -> dict[str, float]:
    """The thresholds of greatest F1 on a validation split, also written to ``operating.json``."""
    chosen = {
        name: found["best_f1_threshold"]
        for name, found in score_each(predictions, truth, dict.fromkeys(predictions)).items()
    }
    made_from = {name: one.made_from for name, one in predictions.items()}
    write_bytes(path, json_bytes({"thresholds": chosen, "chosen_on": "validation", "made_from": made_from}, indent=2))
    return chosen


def stored_thresholds(path: Path, predictions: Mapping[str, Predictions]) -> dict[str, float]:
    """The thresholds of an earlier validation with the same models and the same fusion.

    Raises:
        DataError: there are none, or they are of other models.
    """
    advice = "score the prepared folder first: its validation split chooses them"
    try:
        content = json.loads(path.read_text())
        thresholds, made_from = content["thresholds"], content["made_from"]
    except FileNotFoundError:
        raise DataError(f"{path}: no thresholds yet; {advice}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: damaged ({error!r}); {advice}") from error
    for name, one in predictions.items():
        if _without_data(made_from.get(name)) != _without_data(json.loads(json.dumps(dict(one.made_from)))):
            raise DataError(f"{path}: the threshold of '{name}' is of another model or fusion; {advice}")
    return thresholds


def _without_data(made_from: Any) -> Any:
    """What predictions were made from, the images aside."""
    if not isinstance(made_from, Mapping):
        return made_from
    return {key: _without_data(value) for key, value in made_from.items() if key != "data_sha256"}
