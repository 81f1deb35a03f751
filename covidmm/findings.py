"""What models find on radiographs and in studies: frozen dataclasses, checked when they are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from covidmm.radiograph import Radiograph

#: The order of study-level probabilities everywhere in covidmm.
STUDY_CLASSES = ("negative", "typical", "indeterminate", "atypical")


@dataclass(frozen=True)
class Detections:
    """The boxes that one detector, or several fused, found on one radiograph.

    Attributes:
        boxes: (N, 4) float32, x1 y1 x2 y2 in pixels of the original image.
        scores: (N,) float32 in 0..1.
        labels: (N,) int64 class indices; zeros where none are given.

    Raises:
        ValueError: shapes that do not agree, values that are not finite, scores outside 0..1.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def __post_init__(self) -> None:
        boxes = np.asarray(self.boxes, np.float32).reshape(-1, 4)
        scores = np.asarray(self.scores, np.float32)
        labels = np.asarray(self.labels, np.int64)
        if not len(labels):
            labels = np.zeros(len(scores), np.int64)
        if scores.shape != (len(boxes),) or labels.shape != scores.shape:
            raise ValueError(f"{len(boxes)} boxes, but scores {scores.shape} and labels {labels.shape}")
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise ValueError("boxes and scores must be finite")
        if scores.size and (scores.min() < 0 or scores.max() > 1):
            raise ValueError(f"scores must lie in 0..1, not {scores.min()}..{scores.max()}")
        for name, value in (("boxes", boxes), ("scores", scores), ("labels", labels)):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def none(cls) -> Detections:
        """No box at all."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))

    @classmethod
    def joined(cls, parts: Sequence[Detections]) -> Detections:
        """The boxes of several sets, the highest score first."""
        boxes, scores, labels = (
            np.concatenate([getattr(one, name) for one in parts]) for name in ("boxes", "scores", "labels")
        )
        order = np.argsort(-scores, kind="stable")
        return cls(boxes[order], scores[order], labels[order])

    def of(self, labels: Sequence[int]) -> Detections:
        """The boxes of some classes."""
        kept = np.isin(self.labels, labels)
        return Detections(self.boxes[kept], self.scores[kept], self.labels[kept])


#: What labels stand for where nothing says more: SIIM's and RSNA's class.
OPACITY = ("opacity",)


@dataclass(frozen=True)
class Study:
    """One study: its radiographs, and per radiograph what was detected on it.

    Attributes:
        identifier: its name.
        radiographs: at least one.
        detections: of each.
        classes: what their labels stand for.

    Raises:
        ValueError: not one set of detections per radiograph.
    """

    identifier: str
    radiographs: Sequence[Radiograph]
    detections: Sequence[Detections]
    classes: tuple[str, ...] = OPACITY

    def __post_init__(self) -> None:
        if len(self.radiographs) != len(self.detections):
            raise ValueError(f"{len(self.radiographs)} radiographs, but {len(self.detections)} sets of detections")


@dataclass(frozen=True)
class ImageFindings:
    """What was found on one image.

    Attributes:
        image_id: the image's name.
        height: rows of the original image.
        width: columns of the original image.
        members: the boxes of each detector, by its name, thresholds not yet applied.
        fused: the boxes of the ensemble.
        error: why the image could not be read; it has no boxes then.
        notes: what was ignored, replaced or guessed when the image was read, a sentence each.
    """

    image_id: str
    height: int
    width: int
    members: Mapping[str, Detections]
    fused: Detections
    error: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class StudyFindings:
    """What was found in one study.

    Attributes:
        study_id: the study's name.
        images: one entry per image, readable or not.
        probabilities: (4,) float32 in the order of :data:`STUDY_CLASSES`, None where no classifier was asked.
        classes: what the labels of the boxes stand for.
    """

    study_id: str
    images: Sequence[ImageFindings]
    probabilities: NDArray[np.float32] | None
    classes: tuple[str, ...] = OPACITY
