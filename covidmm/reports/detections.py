"""Detectors compared with the truth on the images of one split: metrics, curves and cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from covidmm.datasets.annotated_image import TrueBoxes
from covidmm.datasets.prepared_folder import PreparedSplit
from covidmm.errors import DataError
from covidmm.evaluation.coco_dicts import coco_results, coco_truth, found_by_image, read_results
from covidmm.evaluation.detection import rank_classes, score_detections
from covidmm.evaluation.ranking import Ranking
from covidmm.findings import Detections
from covidmm.outputs.predictions import read_predictions
from covidmm.reports.drawn_images import DrawnImage, choose
from covidmm.reports.runs import ENSEMBLE, Fused, Run

#: Why a case is shown.
KINDS = ("best", "median", "worst", "missed", "false alarm")
#: Where no validation chose a threshold; the text of ``tools/test.py`` begins with it.
OPTIMISTIC = "this split, maximising F1 (optimistic)"


@dataclass(frozen=True)
class Comparison:
    """Detectors on the same images.

    Attributes:
        name: of the run or the ensemble.
        split: the images and where their pictures are.
        images: their entries, with ``width`` and ``height`` of the grid that the boxes are in.
        truths: per image.
        found: per detector, what it found on each image.
        metrics: per detector, as ``metrics.json`` has them, with intervals.
        final: the detector that cases are chosen by: the ensemble, or the only one.
    """

    name: str
    split: PreparedSplit
    images: Sequence[Mapping[str, Any]]
    truths: Sequence[TrueBoxes]
    found: Mapping[str, Sequence[Detections]]
    metrics: Mapping[str, Mapping[str, Any]]
    final: str

    @cached_property
    def rankings(self) -> dict[str, Ranking]:
        """Per detector its predictions of all classes by falling score."""
        found = {name: [(one.boxes, one.scores, one.labels) for one in own] for name, own in self.found.items()}
        return {name: rank_classes(own, self.truths) for name, own in found.items()}

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
            (one for one in images if one.counts[1] and not len(one.truth)),
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
            final = kept.pop(self.final)
            path = self.split.folder / "images" / image["file_name"]
            drawn.append(
                DrawnImage(
                    name=str(image.get("image_id") or path.stem),
                    size=(image["height"], image["width"]),
                    found=Detections.none(),
                    truth=truth,
                    members=kept,
                    study_class=image.get("study_class"),
                    path=path,
                    classes=self.split.categories,
                ).compared(final)
            )
        return drawn

    def above(self, name: str, index: int) -> Detections:
        """What one detector found on one image and reaches its threshold."""
        found = self.found[name][index]
        kept = found.scores.astype(np.float64) >= self.metrics[name]["threshold"]
        return Detections(found.boxes[kept], found.scores[kept], found.labels[kept])


def of_run(run: Run, splits: Sequence[PreparedSplit]) -> Comparison:
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
        recorded = run.provenance[name].get("predictions", "predictions.json")
        raise DataError(f"{run.name}: {recorded} of this test is not here, so no curves and pictures; test again")
    if metrics.get("images", len(split.images)) != len(split.images):
        raise DataError(
            f"{run.name}: {metrics['images']} of the {len(split.images)} images of {split.path} were evaluated, not "
            "recorded which, so no curves and pictures; test on all of them"
        )
    results = read_results(run.predictions)
    try:
        rows = found_by_image(results, [image.number for image in split.images], split.category_ids)
    except DataError as error:
        raise DataError(f"{run.predictions}: {error} ({split.path})") from error
    found = [Detections(*one) for one in rows]
    images, truths = [one.coco for one in split.images], [one.truth for one in split.images]
    return _compared(run.name, split, images, truths, {name: found}, {name: metrics}, name)


def of_fused(fused: Fused, splits: Sequence[PreparedSplit]) -> Comparison:
    """What ``tools/ensemble.py`` predicted, member by member and fused.

    Raises:
        DataError: a file is damaged, or no split given has exactly its images.
    """
    names = sorted(path.name.removesuffix(".header.json") for path in fused.folder.glob("*.header.json"))
    predictions = {name: one for name in names if (one := read_predictions(fused.folder, name))}
    ids = {image.image_id for image in predictions[ENSEMBLE].images}
    split = next((split for split in splits if {image.image_id for image in split.images} == ids), None)
    if split is None:
        source = fused.provenance.get("data", "unknown")
        raise DataError(f"{fused.name}: the prepared folder of its images is not here ({source}); name it by --data")
    truths = [one.original_truth for one in split.images]
    images = [{**one.coco, "height": one.original_size[0], "width": one.original_size[1]} for one in split.images]
    place = {image["image_id"]: index for index, image in enumerate(images)}
    found: dict[str, list[Detections]] = {}
    for name in [*(one for one in predictions if one != ENSEMBLE), ENSEMBLE]:
        found[name] = [Detections.none()] * len(images)
        for entry, own in predictions[name]:
            found[name][place[entry.image_id]] = own
    metrics = dict(fused.metrics.get("detectors") or {})
    for name in found:
        metrics.setdefault(name, {"threshold": fused.thresholds[name]} if name in fused.thresholds else {})
    return _compared(fused.name, split, images, truths, found, metrics, ENSEMBLE)


def _compared(
    name: str,
    split: PreparedSplit,
    images: Sequence[Mapping[str, Any]],
    truths: Sequence[TrueBoxes],
    found: Mapping[str, Sequence[Detections]],
    metrics: Mapping[str, Mapping[str, Any]],
    final: str,
) -> Comparison:
    """Complete the metrics: those that no tool wrote, and intervals."""
    if not sum(map(len, truths)):
        raise DataError(f"{name}: none of its images has a box, so there is nothing to compare with")
    complete = {}
    for detector, detections in found.items():
        own = dict(metrics[detector])
        if "threshold" not in own:
            own["threshold_source"] = OPTIMISTIC
        if "mAP_50" not in own or "mAP_50_interval" not in own:
            results = coco_results(images, detections)
            scored = score_detections(
                coco_truth(images, truths, split.categories), results, own.get("threshold"), with_intervals=True
            )
            own = {**scored, **own}
        complete[detector] = own
    return Comparison(name, split, images, truths, found, complete, final)
