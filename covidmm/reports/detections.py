"""Detectors compared with the truth on the images of one split: metrics, curves and cases."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from covidmm.datasets.annotated_image import AnnotatedImage, TrueBoxes
from covidmm.datasets.annotations import read_annotations
from covidmm.datasets.class_mapping import class_indices, mapped_names
from covidmm.datasets.prepared_folder import PreparedSplit
from covidmm.errors import DataError
from covidmm.evaluation.coco_dicts import coco_results, coco_truth, found_by_image, of_classes, read_results
from covidmm.evaluation.detection import rank_each, score_detections
from covidmm.evaluation.detection_details import with_details
from covidmm.evaluation.ranking import Ranking
from covidmm.findings import OPACITY, Detections
from covidmm.outputs.predictions import read_predictions
from covidmm.reports.drawn_images import DrawnImage, above, choose
from covidmm.reports.facts import parse_config
from covidmm.reports.runs import ENSEMBLE, Fused, Run

#: Why a case is shown.
KINDS = ("best", "median", "worst", "missed", "false alarm")
#: Where no validation chose a threshold; the text of ``tools/test.py`` begins with it.
OPTIMISTIC = "this split, maximising F1 (optimistic)"


class Case(NamedTuple):
    """An image worth a look.

    Attributes:
        kind: one of :data:`KINDS`.
        image: the image with all its boxes.
        finding: the class by which it was chosen; empty where there is one.
    """

    kind: str
    image: DrawnImage
    finding: str = ""


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
        classes: what labels stand for.
    """

    name: str
    split: PreparedSplit
    images: Sequence[Mapping[str, Any]]
    truths: Sequence[TrueBoxes]
    found: Mapping[str, Sequence[Detections]]
    metrics: Mapping[str, Mapping[str, Any]]
    final: str
    classes: Sequence[str] = OPACITY

    @cached_property
    def rankings(self) -> dict[str, list[Ranking]]:
        """Per detector the predictions of each class by falling score."""
        found = {name: [(one.boxes, one.scores, one.labels) for one in own] for name, own in self.found.items()}
        return {name: rank_each(own, self.truths, len(self.classes)) for name, own in found.items()}

    @property
    def boxes(self) -> dict[str, int]:
        """True boxes by class."""
        labels = np.concatenate([np.zeros(0, np.int64), *(truth.labels for truth in self.truths)])
        return dict(zip(self.classes, np.bincount(labels, minlength=len(self.classes)).tolist(), strict=True))

    @property
    def images_per_class(self) -> dict[str, int]:
        """Images with a true box, by class."""
        labels = [np.unique(truth.labels) for truth in self.truths]
        counts = np.bincount(np.concatenate([np.zeros(0, np.int64), *labels]), minlength=len(self.classes))
        return dict(zip(self.classes, counts.tolist(), strict=True))

    def thresholds(self, detector: str) -> NDArray[np.float64]:
        """(C,) the confidence that predictions of each class need."""
        own, metrics = self.metrics[detector].get("per_class", {}), self.metrics[detector]
        return np.array([own.get(name, {}).get("threshold", metrics["threshold"]) for name in self.classes])

    def cases(self, each: int) -> list[Case]:
        """Images worth a look, each once, and why.

        Args:
            each: how many of every kind at most; of several classes, the best and the worst image of every class.
        """
        images = self._drawn()
        return _cases_of_one(images, each) if len(self.classes) == 1 else _cases_of_each(images, self.classes)

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
                    classes=self.classes,
                ).compared(final)
            )
        return drawn

    def above(self, name: str, index: int) -> Detections:
        """What one detector found on one image and reaches its threshold."""
        found = self.found[name][index]
        kept = above(found.scores, found.labels, self.thresholds(name))
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
    classes, class_map = _classes_of(run, metrics, split)
    content = of_classes(
        split.path, read_annotations(split.path), [one.number for one in split.images], classes, class_map
    )
    ids = [category["id"] for category in content["categories"]]
    results = read_results(run.predictions)
    try:
        rows = found_by_image(results, [image.number for image in split.images], ids)
    except DataError as error:
        raise DataError(f"{run.predictions}: {error} ({split.path})") from error
    found = [Detections(*one) for one in rows]
    truths = [one.truth for one in _of_classes(split, classes, class_map)]
    images = [one.coco for one in split.images]
    return _compared(Comparison(run.name, split, images, truths, {name: found}, {name: metrics}, name, classes))


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
    classes = tuple(predictions[ENSEMBLE].fingerprint.get("classes", OPACITY))
    truths = [one.original_truth for one in _of_classes(split, classes, {})]
    images = [{**one.coco, "height": one.original_size[0], "width": one.original_size[1]} for one in split.images]
    place = {image["image_id"]: index for index, image in enumerate(images)}
    found: dict[str, list[Detections]] = {}
    for name in [*(one for one in predictions if one != ENSEMBLE), ENSEMBLE]:
        found[name] = [Detections.none()] * len(images)
        for entry, own in predictions[name]:
            found[name][place[entry.image_id]] = own
    metrics = dict(fused.metrics.get("detectors") or {})
    for name in found:
        chosen = {"threshold": fused.thresholds[name]} if name in fused.thresholds else {}
        if own := fused.class_thresholds.get(name):
            chosen["per_class"] = {one: {"threshold": value} for one, value in own.items()}
        metrics.setdefault(name, chosen)
    return _compared(Comparison(fused.name, split, images, truths, found, metrics, ENSEMBLE, classes))


def _classes_of(
    run: Run, metrics: Mapping[str, Any], split: PreparedSplit
) -> tuple[tuple[str, ...], Mapping[str, str | None]]:
    """The classes that a detector was tested on, and what categories of the data set count as them."""
    config = parse_config(run.config.read_text()) if run.config else {}
    evaluators = config.get("test_evaluator") or {}
    evaluators = evaluators if isinstance(evaluators, list | tuple) else [evaluators]
    class_map = next((own for one in evaluators if (own := one.get("class_map"))), {})
    if "per_class" in metrics:
        return tuple(metrics["per_class"]), class_map
    dataset = (config.get("test_dataloader") or {}).get("dataset") or {}
    named = (dataset.get("metainfo") or {}).get("classes")
    return tuple(named or mapped_names(split.categories, class_map)), class_map


def _of_classes(
    split: PreparedSplit, classes: Sequence[str], class_map: Mapping[str, str | None]
) -> list[AnnotatedImage]:
    """The images of a split with the boxes of some classes."""
    indices = class_indices(str(split.path), split.categories, classes, class_map, absent=classes)
    return [image.of_classes(indices, classes) for image in split.images]


def _compared(found: Comparison) -> Comparison:
    """Complete the metrics: those that no tool wrote, and intervals."""
    if not sum(map(len, found.truths)):
        raise DataError(f"{found.name}: none of its images has a box, so there is nothing to compare with")
    complete = {}
    truth = coco_truth(found.images, found.truths, found.classes)
    for detector, detections in found.found.items():
        own = dict(found.metrics[detector])
        if "threshold" not in own:
            own["threshold_source"] = OPTIMISTIC
        if not {"mAP_50", "mAP_50_interval", "froc", "errors"} <= own.keys():
            results = coco_results(found.images, detections)
            chosen = {name: one["threshold"] for name, one in own.get("per_class", {}).items() if "threshold" in one}
            scored = with_details(score_detections(truth, results, own.get("threshold"), chosen), truth, results)
            per_class = {
                name: {**one, **own.get("per_class", {}).get(name, {})}
                for name, one in scored.get("per_class", {}).items()
            }
            own = {**scored, **own} | ({"per_class": per_class} if per_class else {})
        complete[detector] = own
    return replace(found, metrics=complete)


def _cases_of_one(images: Sequence[DrawnImage], each: int) -> list[Case]:
    """Of one class: best, median and worst images, missed boxes, and false alarms."""
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
    shown: dict[str, Case] = {}
    # the rare kinds choose first
    for kind, queue in reversed(list(zip(KINDS, queues, strict=True))):
        for image in [one for one in queue if one.name not in shown][:each]:
            shown[image.name] = Case(kind, image)
    return sorted(shown.values(), key=lambda case: KINDS.index(case.kind))


def _cases_of_each(images: Sequence[DrawnImage], classes: Sequence[str]) -> list[Case]:
    """Of several classes, the best and the worst image of each, by its boxes alone, as far as there are any."""
    by_name = {image.name: image for image in images}
    parts: dict[int, list[DrawnImage]] = defaultdict(list)
    for image in images:
        for label in {*image.truth.labels.tolist(), *image.found.labels.tolist()}:
            parts[label].append(image.of_class(label))
    shown: dict[str, Case] = {}
    # classes on few images choose first
    for label in sorted(parts, key=lambda label: (len(parts[label]), label)):
        found = [image for image in parts[label] if image.counts[0]]
        failed = [image for image in parts[label] if sum(image.counts[1:])]
        for kind, own in (("worst", failed), ("best", found)):
            queue = choose(own, len(own), kind)
            if image := next((one for one in queue if one.name not in shown), None):
                shown[image.name] = Case(kind, by_name[image.name], classes[label])
    return sorted(shown.values(), key=lambda case: (classes.index(case.finding), KINDS.index(case.kind)))
