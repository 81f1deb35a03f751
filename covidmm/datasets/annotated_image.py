"""The labels and boxes that annotators gave an image: the one type of truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covidmm.findings import OPACITY
from covidmm.prepare.layouts.nih import NO_FINDING
from covidmm.utils.boxes import rescaled


@dataclass(frozen=True, eq=False)
class TrueBoxes:
    """The true boxes of one image, x1 y1 x2 y2 in one pixel grid.

    Attributes:
        boxes: (M, 4) float64.
        labels: (M,) int64 class index of each; zeros where none are given.
        crowds: (K, 4) float64 regions with boxes that nobody drew one by one (``iscrowd``): what is found in them is
            neither right nor wrong.
        crowd_labels: (K,) as ``labels``.
    """

    boxes: NDArray[np.float64]
    labels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    crowds: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 4)))
    crowd_labels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def __post_init__(self) -> None:
        for labels, boxes in (("labels", self.boxes), ("crowd_labels", self.crowds)):
            if len(boxes) and not len(getattr(self, labels)):
                object.__setattr__(self, labels, np.zeros(len(boxes), np.int64))

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass(frozen=True, eq=False)
class AnnotatedImage:
    """The labels and boxes of one image.

    Attributes:
        path: the picture that the boxes were drawn on.
        image_id: its name in the data set.
        study_id: of its study.
        boxes: (N, 4) float64 x1 y1 x2 y2 in pixels of the picture.
        labels: (N,) int64 class index of each box, its place in the split's ``categories``; zeros where none are given.
        crowds: (K, 4) and
        crowd_labels: (K,) as in :class:`TrueBoxes`; none of them is among ``boxes``.
        size: height and width of the picture, None where it was not read.
        original_size: height and width of the original that the picture was made from.
        study_class: one of ``STUDY_CLASSES``, None where the data set has none.
        findings: what the whole image shows, None where the data set does not say.
        patient: None where unknown.
        split: ``'train'``, ``'val'`` or ``'test'``; None outside prepared folders.
        dataset: name of the folder.
        categories: what the labels of its boxes stand for.
        coco: its object in the COCO file, for anything else that the data set has.
    """

    path: Path
    image_id: str
    study_id: str
    boxes: NDArray[np.float64]
    labels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    crowds: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 4)))
    crowd_labels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    size: tuple[int, int] | None = None
    original_size: tuple[int, int] | None = None
    study_class: str | None = None
    findings: tuple[str, ...] | None = None
    patient: str | None = None
    split: str | None = None
    dataset: str = ""
    categories: tuple[str, ...] = OPACITY
    coco: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.boxes) and not len(self.labels):
            object.__setattr__(self, "labels", np.zeros(len(self.boxes), np.int64))

    @property
    def name(self) -> str:
        """Data set and image id, for people."""
        return f"{self.dataset}/{self.image_id}"

    @property
    def number(self) -> int:
        """Its id in the COCO file, unique over the splits of a data set."""
        return self.coco["id"]

    @property
    def original_boxes(self) -> NDArray[np.float64]:
        """(N, 4) x1 y1 x2 y2 in pixels of the original."""
        if self.size is None or self.original_size is None:
            return self.boxes
        return rescaled(self.boxes, self.size, self.original_size)

    @property
    def truth(self) -> TrueBoxes:
        """Boxes and crowds in pixels of the picture."""
        return TrueBoxes(self.boxes, self.labels, self.crowds, self.crowd_labels)

    @property
    def original_truth(self) -> TrueBoxes:
        """Boxes and crowds in pixels of the original."""
        crowds = self.crowds
        if self.size is not None and self.original_size is not None:
            crowds = rescaled(crowds, self.size, self.original_size)
        return TrueBoxes(self.original_boxes, self.labels, crowds, self.crowd_labels)

    @property
    def classes(self) -> tuple[str, ...]:
        """Study class, RSNA class, findings or the classes of its boxes, whichever the data set has."""
        if one := self.study_class or self.coco.get("rsna_class"):
            return (str(one),)
        labels = {*self.labels.tolist(), *self.crowd_labels.tolist()}
        boxed = tuple(name for label, name in enumerate(self.categories) if label in labels)
        return self.findings or boxed or ("no " + (self.categories[0] if len(self.categories) == 1 else "finding"),)

    def of_classes(self, indices: Sequence[int | None], classes: Sequence[str]) -> AnnotatedImage:
        """The image with other labels, and without the boxes that have none.

        Args:
            indices: the new index of each category, None for none.
            classes: what the new indices stand for.
        """
        if list(indices) == list(range(len(indices))) and tuple(classes) == self.categories:
            return self
        places = np.array([-1 if index is None else index for index in indices], np.int64)
        labels, crowd_labels = places[self.labels], places[self.crowd_labels]
        return replace(
            self,
            boxes=self.boxes[labels >= 0],
            labels=labels[labels >= 0],
            crowds=self.crowds[crowd_labels >= 0],
            crowd_labels=crowd_labels[crowd_labels >= 0],
            categories=tuple(classes),
        )

    @property
    def positive(self) -> bool:
        """Whether anything was found on it: not negative, not 'No Finding', or boxed."""
        if self.study_class:
            return self.study_class != "negative"
        if self.findings is not None:
            return self.findings != (NO_FINDING,)
        return len(self.boxes) > 0 or len(self.crowds) > 0
