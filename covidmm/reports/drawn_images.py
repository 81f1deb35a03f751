"""Images with their truth and predictions, and which of them to look at."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from covidmm.errors import DataError
from covidmm.evaluation.detection import match
from covidmm.findings import STUDY_CLASSES
from covidmm.utils.boxes import corners
from covidmm.utils.fileio import json_value

Order = Literal["spread", "worst", "best"]


@dataclass(frozen=True)
class Case:
    """One image with its truth and the predictions that reach a threshold.

    ``truth`` (M, 4) and ``boxes`` (N, 4) are x1 y1 x2 y2 in pixels of the image file; ``scores`` (N,);
    ``hits`` (N,) tells which boxes are true positives; ``image`` is the image's entry in the COCO file; ``members``
    has the boxes of each detector of an ensemble, by name.
    """

    path: Path
    image: Mapping[str, Any]
    truth: NDArray[np.float64]
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    hits: NDArray[np.bool_]
    members: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The data set's own identifier of the image."""
        return str(self.image.get("image_id") or self.path.stem)

    @property
    def study_class(self) -> str | None:
        """The study class, None where the data set has none."""
        return self.image.get("study_class")

    @property
    def counts(self) -> tuple[int, int, int]:
        """True positives, false positives, false negatives."""
        found = int(self.hits.sum())
        return found, len(self.boxes) - found, len(self.truth) - found

    @property
    def f1(self) -> float:
        """F1 of this image alone; 1 where there is rightly nothing."""
        found, false, missed = self.counts
        return 2 * found / (2 * found + false + missed) if found + false + missed else 1.0


def read_cases(
    images: str | Path,
    coco: Mapping[str, Any] | str | Path,
    predictions: Sequence[Mapping[str, Any]] | str | Path,
    threshold: float,
) -> list[Case]:
    """Join a COCO detection file with a COCO results list.

    Args:
        images: the folder that the file names are relative to.
        coco: the COCO file or its content.
        predictions: the results file or its content; those below ``threshold`` are left out.
        threshold: the least score.

    Raises:
        DataError: a file is missing or damaged, or a prediction belongs to no image.
    """
    coco = _load(coco, dict) if isinstance(coco, str | Path) else coco
    predictions = _load(predictions, list) if isinstance(predictions, str | Path) else predictions
    truths, found = defaultdict(list), defaultdict(list)
    for annotation in coco["annotations"]:
        truths[annotation["image_id"]].append(annotation["bbox"])
    for prediction in predictions:
        found[prediction["image_id"]].append(prediction)
    if strangers := found.keys() - {image["id"] for image in coco["images"]}:
        raise DataError(f"prediction for image {min(strangers)}, which the ground truth does not have")
    cases = []
    for image in coco["images"]:
        truth = corners(truths[image["id"]])
        kept = [p for p in found[image["id"]] if p["score"] >= threshold]
        boxes, scores = corners([p["bbox"] for p in kept]), np.array([p["score"] for p in kept], np.float64)
        cases.append(Case(Path(images, image["file_name"]), image, truth, boxes, scores, match(boxes, scores, truth)))
    return cases


def choose(cases: Sequence[Case], count: int, order: Order = "spread", seed: int = 0) -> list[Case]:
    """Some cases, the same ones whatever order they come in.

    Args:
        cases: those to choose from.
        count: how many at most.
        order: ``spread`` draws from the study classes in turn and lists them class by class; ``worst`` begins
            with the lowest F1 and most errors, ``best`` with the highest F1 and most boxes found.
        seed: which ones ``spread`` draws.
    """
    cases = sorted(cases, key=lambda case: (case.name, str(case.path)))
    if order == "worst":
        return sorted(cases, key=lambda case: (case.f1, -sum(case.counts[1:])))[:count]
    if order == "best":
        return sorted(cases, key=lambda case: (-case.f1, -case.counts[0]))[:count]
    if order != "spread":
        raise ValueError(f"order must be 'spread', 'worst' or 'best', not {order!r}")
    queues = defaultdict(list)
    for index in np.random.default_rng(seed).permutation(len(cases)):
        queues[_rank(cases[index])].append(cases[index])
    turns = [(turn, rank, case) for rank, queue in queues.items() for turn, case in enumerate(queue)]
    chosen = sorted(turns, key=lambda entry: entry[:2])[:count]
    return [case for _, _, case in sorted(chosen, key=lambda entry: (entry[1], entry[0]))]


def _rank(case: Case) -> int:
    """The place of the study class; images without one come last."""
    known = case.study_class in STUDY_CLASSES
    return STUDY_CLASSES.index(str(case.study_class)) if known else len(STUDY_CLASSES)


def _load(path: str | Path, kind: type) -> Any:
    try:
        content = json_value(Path(path).read_text())
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except ValueError as error:
        raise DataError(f"{path}: is not JSON ({error})") from error
    if not isinstance(content, kind):
        raise DataError(f"{path}: holds a {type(content).__name__} where a {kind.__name__} belongs")
    return content
