"""Radiographs with the boxes that are drawn on them, and which of them to look at."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from covidmm.datasets.annotated_image import TrueBoxes
from covidmm.datasets.annotations import read_annotations
from covidmm.evaluation.coco_dicts import found_by_image, of_classes, read_results, truths_by_image
from covidmm.evaluation.detection import match_classes
from covidmm.evaluation.detection_errors import unclaimed
from covidmm.findings import STUDY_CLASSES, Detections

Order = Literal["spread", "worst", "best"]


@dataclass(frozen=True)
class DrawnImage:
    """One radiograph and the boxes to draw on it; boxes are x1 y1 x2 y2 in a grid of ``size`` pixels.

    Attributes:
        name: the data set's own identifier of the image, or another text for its caption.
        size: (height, width) of the grid.
        found: the boxes of the detector or ensemble that is looked at, thresholds applied.
        truth: the true boxes, and crowds, which count for nothing.
        hits: (N,) which of ``found`` are true positives; None where there is no truth to compare with.
        ignored: (N,) which of ``found`` lie in a crowd and count for nothing; None: none.
        members: the boxes of each detector of an ensemble, by name; None for one that is not drawn, whose place
            keeps the colours of the others.
        study_class: None where the data set has none.
        path: the file with the pixels; None where they are in memory.
        classes: names by label, where there are several.
    """

    name: str
    size: tuple[int, int]
    found: Detections
    truth: TrueBoxes = field(default_factory=lambda: TrueBoxes(np.zeros((0, 4))))
    hits: NDArray[np.bool_] | None = None
    ignored: NDArray[np.bool_] | None = None
    members: Mapping[str, Detections | None] = field(default_factory=dict)
    study_class: str | None = None
    path: Path | None = None
    classes: Sequence[str] = ()

    def compared(self, found: Detections) -> DrawnImage:
        """The same image with other boxes, matched with the truth class by class as in the score."""
        hits, ignored = match_classes(found.boxes, found.scores, found.labels, self.truth)
        return replace(self, found=found, hits=hits, ignored=ignored)

    def of_class(self, label: int) -> DrawnImage:
        """The image with the boxes of one class alone, as they were matched."""
        own, crowd = self.truth.labels == label, self.truth.crowd_labels == label
        truth = TrueBoxes(
            self.truth.boxes[own], self.truth.labels[own], self.truth.crowds[crowd], self.truth.crowd_labels[crowd]
        )
        kept = self.found.labels == label
        hits, ignored = (None if one is None else one[kept] for one in (self.hits, self.ignored))
        return replace(self, found=self.found.of([label]), truth=truth, hits=hits, ignored=ignored)

    @property
    def several(self) -> bool:
        """Whether there are several classes, so that boxes are told apart by them."""
        return len(self.classes) > 1

    @property
    def missed(self) -> NDArray[np.bool_]:
        """(M,) which true boxes no prediction hit; none where there are no ``hits``."""
        if self.hits is None:
            return np.zeros(len(self.truth), bool)
        return unclaimed(self.found.boxes, self.found.labels, self.hits, self.truth)

    @property
    def counts(self) -> tuple[int, int, int]:
        """True positives, false positives, false negatives."""
        found = 0 if self.hits is None else int(self.hits.sum())
        ignored = 0 if self.ignored is None else int(self.ignored.sum())
        return found, len(self.found) - found - ignored, len(self.truth) - found

    @property
    def f1(self) -> float:
        """F1 of this image alone; 1 where there is rightly nothing."""
        found, false, missed = self.counts
        return 2 * found / (2 * found + false + missed) if found + false + missed else 1.0


def least_scores(
    classes: Sequence[str], threshold: float, per_class: Mapping[str, float] | None
) -> NDArray[np.float64]:
    """(C,) the score that a prediction of each class needs: its own where there is one, else the common one."""
    return np.array([(per_class or {}).get(name, threshold) for name in classes])


def above(scores: NDArray, labels: NDArray[np.int64], least: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(N,) which predictions reach the score of their class; a threshold chosen among float32 scores is one of them."""
    return scores >= least.astype(scores.dtype)[labels]


def drawn_images(
    files: Mapping[int, Path],
    annotations: Path,
    predictions: Path,
    threshold: float,
    classes: Sequence[str] | None = None,
    class_map: Mapping[str, str | None] | None = None,
    per_class: Mapping[str, float] | None = None,
) -> dict[int, DrawnImage]:
    """Join a COCO detection file with a COCO results list: images by their number in the file.

    Args:
        files: of the images that are drawn, by their number.
        annotations: the COCO file.
        predictions: the results file; predictions below ``threshold`` are left out.
        threshold: the least score.
        classes: names of the classes that count, None for all; boxes of others are left out.
        class_map: name of a category -> name of the class.
        per_class: by class, the least score where it is another one.

    Raises:
        DataError: a file is missing or damaged, or a prediction belongs to no image or category.
    """
    results = read_results(predictions)
    content = of_classes(annotations, read_annotations(annotations), files, classes, class_map)
    images = content["images"]
    numbers = [image["id"] for image in content["images"]]
    ids = [category["id"] for category in content["categories"]]
    names = [category["name"] for category in content["categories"]]
    annotated = content["annotations"]
    found = dict(zip(numbers, found_by_image(results, numbers, ids), strict=True))
    truths = dict(zip(numbers, truths_by_image(annotated, numbers, ids), strict=True))
    least = least_scores(names, threshold, per_class)
    drawn = {}
    for image in images:
        boxes, scores, labels = found[image["id"]]
        kept = above(scores, labels, least)
        path = files[image["id"]]
        drawn[image["id"]] = DrawnImage(
            name=str(image.get("image_id") or path.stem),
            size=(image["height"], image["width"]),
            found=Detections.none(),
            truth=truths[image["id"]],
            study_class=image.get("study_class"),
            path=path,
            classes=names,
        ).compared(Detections(boxes[kept], scores[kept], labels[kept]))
    return drawn


def choose(images: Sequence[DrawnImage], count: int, order: Order = "spread") -> list[DrawnImage]:
    """Some images; the order in which they are given does not matter.

    Args:
        images: those to choose from.
        count: how many at most.
        order: ``spread`` draws from the study classes by turns and lists them class by class; ``worst`` begins
            with the lowest F1 and most errors, ``best`` with the highest F1 and most boxes found.
    """
    images = sorted(images, key=lambda image: (image.name, str(image.path)))
    if order == "worst":
        return sorted(images, key=lambda image: (image.f1, -sum(image.counts[1:])))[:count]
    if order == "best":
        return sorted(images, key=lambda image: (-image.f1, -image.counts[0]))[:count]
    if order != "spread":
        raise ValueError(f"order must be 'spread', 'worst' or 'best', not {order!r}")
    queues = defaultdict(list)
    for index in np.random.default_rng(0).permutation(len(images)):
        queues[_rank(images[index])].append(images[index])
    turns = [(turn, rank, image) for rank, queue in queues.items() for turn, image in enumerate(queue)]
    chosen = sorted(turns, key=lambda entry: entry[:2])[:count]
    return [image for _, _, image in sorted(chosen, key=lambda entry: (entry[1], entry[0]))]


def _rank(image: DrawnImage) -> int:
    """The place of the study class; images without one come last."""
    return STUDY_CLASSES.index(image.study_class) if image.study_class in STUDY_CLASSES else len(STUDY_CLASSES)
