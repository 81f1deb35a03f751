"""What models find on radiographs and in studies: frozen dataclasses, checked when they are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from covidmm.errors import PluginError
from covidmm.radiograph import Radiograph

#: SIIM's study classes, in the order of the probabilities of its classifiers.
STUDY_CLASSES = ("negative", "typical", "indeterminate", "atypical")


@dataclass(frozen=True)
class StudyLabels:
    """What the probabilities of a study classifier stand for; SIIM's appearances by default.

    Attributes:
        names: of its classes, in the order of the probabilities.
        multi_label: any number of them can hold, each with a probability of its own, instead of exactly one.
        negative: the class which says that nothing is there; None where none does.

    Raises:
        PluginError: names that are no distinct texts; a negative class that is none of them.
    """

    names: tuple[str, ...] = STUDY_CLASSES
    multi_label: bool = False
    negative: str | None = STUDY_CLASSES[0]

    #: Probability from which one of several labels is taken to hold.
    THRESHOLD: ClassVar[float] = 0.5

    def __post_init__(self) -> None:
        names = self.names
        if not isinstance(names, list | tuple) or not names or not all(isinstance(one, str) and one for one in names):
            raise PluginError(f"classes must be a tuple of names, not {names!r}")
        if len(set(names)) < len(names):
            raise PluginError(f"classes: a name stands twice in {tuple(names)!r}")
        if self.negative is not None and self.negative not in names:
            raise PluginError(f"negative is {self.negative!r}, the classes are {', '.join(names)}")
        object.__setattr__(self, "names", tuple(names))

    @classmethod
    def of(cls, classifier: object) -> StudyLabels:
        """What a study classifier says of itself by ``classes``, ``multi_label`` and ``negative``.

        One without ``classes`` is of SIIM's.

        Raises:
            PluginError: what it says is wrong.
        """
        names = getattr(classifier, "classes", None)
        multi_label = bool(getattr(classifier, "multi_label", False))
        if names is None or (names == STUDY_CLASSES and not multi_label):
            return cls()
        return cls(names, multi_label, getattr(classifier, "negative", None))

    @classmethod
    def of_json(cls, content: Mapping[str, Any]) -> StudyLabels:
        """What :meth:`to_json` gave, through JSON.

        Raises:
            PluginError: it is something else.
        """
        if "study_classes" not in content:
            return cls()
        return cls(content["study_classes"], bool(content.get("multi_label")), content.get("negative"))

    def to_json(self) -> dict[str, Any]:
        """Where they are not SIIM's, names and kind, for the files that hold probabilities."""
        if self.of_siim:
            return {}
        return {"study_classes": list(self.names), "multi_label": self.multi_label, "negative": self.negative}

    @property
    def of_siim(self) -> bool:
        """Whether they are those of SIIM's challenge, which has a submission file, codes and a score for them."""
        return self == StudyLabels()

    def present(self, probabilities: NDArray[np.floating] | Sequence[float]) -> tuple[str, ...]:
        """The classes that are taken to hold: the likeliest, or all labels from :attr:`THRESHOLD`."""
        values = np.asarray(probabilities)
        chosen = np.flatnonzero(values >= self.THRESHOLD) if self.multi_label else [values.argmax()]
        return tuple(self.names[index] for index in chosen)

    def negative_in(self, probabilities: NDArray[np.floating] | Sequence[float]) -> float | None:
        """The probability that nothing is there; None where no class says so."""
        return None if self.negative is None else float(probabilities[self.names.index(self.negative)])


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
        probabilities: (C,) float32 in the order of ``study_labels``, None where no classifier was asked.
        classes: what the labels of the boxes stand for.
        study_labels: what the probabilities stand for.
    """

    study_id: str
    images: Sequence[ImageFindings]
    probabilities: NDArray[np.float32] | None
    classes: tuple[str, ...] = OPACITY
    study_labels: StudyLabels = field(default_factory=StudyLabels)
