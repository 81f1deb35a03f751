"""Detectors compared with the truth on the images of one split: metrics, curves and cases."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covidmm.errors import DataError
from covidmm.evaluation.bootstrap import intervals
from covidmm.evaluation.coco_eval import coco_matches
from covidmm.evaluation.detection import IOU_THRESHOLD, match, score_detections
from covidmm.evaluation.ranking import Ranking, detection_statistic
from covidmm.findings import Detections
from covidmm.outputs.predictions import read_predictions
from covidmm.reports.drawn_images import DrawnImage, choose
from covidmm.reports.reported_data import Split
from covidmm.reports.runs import ENSEMBLE, Fused, Run
from covidmm.utils.boxes import corners
from covidmm.utils.fileio import json_value

#: Why a case is shown.
KINDS = ("best", "median", "worst", "missed", "false alarm")
#: Where no validation chose a threshold; what ``tools/test.py`` writes then begins alike.
OPTIMISTIC = "this split, maximising F1 (optimistic)"
Boxes = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class Comparison:
    """Detectors on the same images.

    Attributes:
        name: of the run or the ensemble.
        split: the images and where their pictures are.
        images: their entries, with ``width`` and ``height`` of the grid that the boxes are in.
        truths: per image, (M, 4).
        found: per detector and image, (N, 4) boxes and (N,) scores.
        metrics: per detector, as ``metrics.json`` has them, with intervals.
        final: the detector that cases are chosen by: the ensemble, or the only one.
    """

    name: str
    split: Split
    images: Sequence[Mapping[str, Any]]
    truths: Sequence[NDArray[np.float64]]
    found: Mapping[str, Sequence[Boxes]]
    metrics: Mapping[str, Mapping[str, Any]]
    final: str

    @cached_property
    def rankings(self) -> dict[str, Ranking]:
        """Per detector its predictions by falling score."""
        return {name: ranking(self.images, self.truths, boxes) for name, boxes in self.found.items()}

    def cases(self, each: int) -> list[tuple[str, DrawnImage]]:
        """Images worth a look, each once, and why.

        Args:
            each: how many of every kind at most.
        """
        images = self._drawn()
        boxed = [image for image in images if len(image.truth)]
        ordered = choose(boxed, len(boxed), "worst")
        places = sorted(range(len(ordered)), key=lambda place: abs(place - len(ordered) // 2))
        middle = [ordered[place] for place in places]
        missed = sorted((one for one in boxed if not one.counts[0]), key=lambda one: (-len(one.truth), one.name))
        alarms = sorted(
            (one for one in images if len(one.found) and not len(one.truth)),
            key=lambda one: (-one.found.scores.max(), one.name),
        )
        queues = (choose(boxed, len(boxed), "best"), middle, ordered, missed, alarms)
        shown: dict[str, tuple[str, DrawnImage]] = {}
        # the rare kinds choose first
        for kind, queue in reversed(list(zip(KINDS, queues, strict=True))):
            for image in [one for one in queue if one.name not in shown][:each]:
                shown[image.name] = (kind, image)
        return sorted(shown.values(), key=lambda entry: KINDS.index(entry[0]))

    def _drawn(self) -> list[DrawnImage]:
        """Every image with the boxes of the final detector, and those of the members (alone or fused) beside."""
        drawn = []
        for index, (image, truth) in enumerate(zip(self.images, self.truths, strict=True)):
            kept = {name: self.above(name, index) for name in self.found}
            boxes, scores = kept.pop(self.final)
            path = self.split.folder / "images" / image["file_name"]
            drawn.append(
                DrawnImage(
                    name=str(image.get("image_id") or path.stem),
                    size=(image["height"], image["width"]),
                    found=Detections(boxes, scores),
                    truth=truth,
                    hits=match(boxes, scores, truth),
                    members={name: Detections(*own) for name, own in kept.items()},
                    study_class=image.get("study_class"),
                    path=path,
                )
            )
        return drawn

    def above(self, name: str, index: int) -> Boxes:
        """The boxes and scores of one detector on one image that reach its threshold."""
        boxes, scores = self.found[name][index]
        kept = scores >= self.metrics[name]["threshold"]
        return boxes[kept], scores[kept]


def of_run(run: Run, splits: Sequence[Split]) -> Comparison:
    """What ``tools/test.py`` found with one detector.

    Raises:
        DataError: there are no boxes, or no split given is the one that they belong to.
    """
    name, metrics = next(iter(run.results.items()))
    wanted = run.provenance[name].get("data_sha256")
    split = next((split for split in splits if split.sha256 == wanted), None)
    if split is None:
        data = run.provenance[name].get("data")
        raise DataError(f"{run.name}: the annotations that it was tested on are not here ({data}); name them by --data")
    if run.predictions is None:
        raise DataError(f"{run.name}: no predictions.json, so no curves and pictures; tools/test.py writes it")
    results = _load(run.predictions)
    known = {image["id"] for image in split.images}
    if strange := {one["image_id"] for one in results} - known:
        raise DataError(f"{run.predictions}: a box of image {min(strange)}, which {split.path} does not have")
    grouped = defaultdict(list)
    for one in results:
        grouped[one["image_id"]].append(one)
    boxes = [
        (corners([one["bbox"] for one in own]), np.array([one["score"] for one in own], np.float64))
        for own in (grouped[image["id"]] for image in split.images)
    ]
    return _compared(run.name, split, split.images, split.boxes, {name: boxes}, {name: metrics}, name)


def of_fused(fused: Fused, splits: Sequence[Split]) -> Comparison:
    """What ``tools/ensemble.py`` predicted, member by member and fused.

    Raises:
        DataError: a file is damaged, or no split given has exactly its images.
    """
    names = sorted(path.name.removesuffix(".header.json") for path in fused.folder.glob("*.header.json"))
    predictions = {name: one for name in names if (one := read_predictions(fused.folder, name))}
    ids = {image.image_id for image in predictions[ENSEMBLE].images}
    split = next((split for split in splits if {image["image_id"] for image in split.images} == ids), None)
    if split is None:
        source = fused.provenance.get("data", "unknown")
        raise DataError(f"{fused.name}: the prepared folder of its images is not here ({source}); name it by --data")
    images, truths = [], []
    for image, boxes in zip(split.images, split.boxes, strict=True):
        width, height = image["original_width"], image["original_height"]
        images.append({**image, "width": width, "height": height})
        truths.append(_scaled(boxes, image))
    place = {image["image_id"]: index for index, image in enumerate(images)}
    found: dict[str, list[Boxes]] = {}
    for name in [*(one for one in predictions if one != ENSEMBLE), ENSEMBLE]:
        found[name] = [(np.zeros((0, 4)), np.zeros(0))] * len(images)
        for entry, own in predictions[name]:
            found[name][place[entry.image_id]] = own.boxes.astype(np.float64), own.scores.astype(np.float64)
    metrics = dict(fused.metrics.get("detectors") or {})
    for name in found:
        metrics.setdefault(name, {"threshold": fused.thresholds[name]} if name in fused.thresholds else {})
    return _compared(fused.name, split, images, truths, found, metrics, ENSEMBLE)


def ranking(
    images: Sequence[Mapping[str, Any]], truths: Sequence[NDArray[np.float64]], found: Sequence[Boxes]
) -> Ranking:
    """The predictions of one detector on all images, those of one study in one cluster."""
    studies = {study: number for number, study in enumerate(dict.fromkeys(image["study_id"] for image in images))}
    hits = [match(boxes, scores, truth) for (boxes, scores), truth in zip(found, truths, strict=True)]
    clusters = [studies[image["study_id"]] for image in images]
    return Ranking.of([scores for _, scores in found], hits, [len(one) for one in truths], clusters, len(studies))


def _compared(
    name: str,
    split: Split,
    images: Sequence[Mapping[str, Any]],
    truths: Sequence[NDArray[np.float64]],
    found: Mapping[str, Sequence[Boxes]],
    metrics: Mapping[str, Mapping[str, Any]],
    final: str,
) -> Comparison:
    """Complete the metrics: those that no tool wrote, and intervals."""
    if not sum(map(len, truths)):
        raise DataError(f"{name}: none of its images has a box, so there is nothing to compare with")
    complete = {}
    for detector, boxes in found.items():
        own = dict(metrics[detector])
        if "threshold" not in own:
            own["threshold_source"] = OPTIMISTIC
        if "mAP_50" not in own or "mAP_50_interval" not in own:
            own = {**_scored(images, truths, boxes, own.get("threshold")), **own}
        complete[detector] = own
    return Comparison(name, split, images, truths, found, complete, final)


def _scored(
    images: Sequence[Mapping[str, Any]],
    truths: Sequence[NDArray[np.float64]],
    found: Sequence[Boxes],
    threshold: float | None,
) -> dict[str, Any]:
    truth, results = _as_coco(images, truths, found)
    metrics: dict[str, Any] = score_detections(truth, results, threshold)
    ours = ranking(images, truths, found)
    matches = coco_matches(truth, results, IOU_THRESHOLD)
    nothing = np.zeros(0), np.zeros(0, bool)
    scores, hits = zip(*(matches.get(image["id"], nothing) for image in images), strict=True)
    studies = list(dict.fromkeys(image["study_id"] for image in images))
    clusters = [studies.index(image["study_id"]) for image in images]
    coco = Ranking.of(scores, hits, [len(one) for one in truths], clusters, len(studies), group_ties=False)
    ends = intervals(detection_statistic(ours, coco, metrics["threshold"]), len(studies))
    return metrics | {f"{key}_interval": list(pair) for key, pair in ends.items()}


def _as_coco(
    images: Sequence[Mapping[str, Any]], truths: Sequence[NDArray[np.float64]], found: Sequence[Boxes]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image, truth, (boxes, scores) in zip(images, truths, found, strict=True):
        for box in _xywh(truth):
            entry = {"id": len(annotations) + 1, "image_id": image["id"], "category_id": 1}
            annotations.append({**entry, "bbox": box, "area": box[2] * box[3], "iscrowd": 0})
        for box, score in zip(_xywh(boxes), scores.tolist(), strict=True):
            results.append({"image_id": image["id"], "category_id": 1, "bbox": box, "score": score})
    categories = [{"id": 1, "name": "opacity"}]
    return {"images": list(images), "annotations": annotations, "categories": categories}, results


def _xywh(boxes: NDArray[np.float64]) -> list[list[float]]:
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).tolist()


def _scaled(boxes: NDArray[np.float64], image: Mapping[str, Any]) -> NDArray[np.float64]:
    """Boxes in pixels of the prepared image, in those of the original."""
    scale = [image["original_width"] / image["width"], image["original_height"] / image["height"]]
    return boxes * (scale * 2)


def _load(path: Path) -> list[Mapping[str, Any]]:
    try:
        content = json_value(path.read_text())
        if isinstance(content, list) and all({"image_id", "bbox", "score"} <= set(one) for one in content):
            return content
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    raise DataError(f"{path}: is no COCO results list")
