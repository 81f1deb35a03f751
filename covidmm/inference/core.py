"""Read, detect, select, fuse, classify: the steps from images to findings, for folders, web and notebooks.

:class:`Detecting` and :class:`Classifying` run in this process or, pickled, in others: see
:mod:`covidmm.inference.mapping`. What a plugin returns is checked here, for every caller.
"""

from __future__ import annotations

import reprlib
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

import covidmm.ensembles
import covidmm.studies
from covidmm.datasets.image_folders import FolderImage
from covidmm.ensembles.accepted_images import Accepts
from covidmm.ensembles.ensemble_config import Member
from covidmm.errors import CovidmmError, DataError, NotAcceptedError, PluginError, RadiographError
from covidmm.findings import OPACITY, Detections, Study, StudyLabels
from covidmm.inference.detector import Detector, select
from covidmm.inference.ensemble_classes import EnsembleClasses
from covidmm.outputs.predictions import TOLERANCE, ImageEntry
from covidmm.plugins import EnsembleStrategy, PluginManager, StudyClassifier
from covidmm.radiograph import Header, Radiograph

#: Of a radiograph for a classifier that looks at boxes alone.
NO_PIXELS = np.zeros((0, 0), np.uint8)


class Image(Protocol):
    """Something to predict, such as a :class:`~covidmm.datasets.image_folders.FolderImage`."""

    image_id: str
    study_id: str
    labelled: bool

    def read(self) -> Radiograph:
        """The radiograph, with the original's size in its header.

        Raises:
            RadiographError: it cannot be read.
        """


class Decoded(NamedTuple):
    """One image: no radiograph where it cannot be read; and how long that took."""

    entry: ImageEntry
    radiograph: Radiograph | None
    seconds: float


class Batch(NamedTuple):
    """Some images, and the members that are to predict them."""

    images: Sequence[Image]
    members: Sequence[str]


class StudyJob(NamedTuple):
    """One study: its images with the ensemble's boxes."""

    study_id: str
    images: Sequence[FolderImage]
    found: Sequence[tuple[ImageEntry, Detections]]


class Predicted(NamedTuple):
    """What the members found in a batch: entries and, per member, boxes; and seconds per step."""

    entries: list[ImageEntry]
    found: dict[str, list[Detections]]
    seconds: dict[str, float]


class Classified(NamedTuple):
    """A study's (C,) float64 probabilities, None without a readable image; and seconds per step."""

    study_id: str
    values: NDArray[np.float64] | None
    seconds: dict[str, float]


class Work(ABC):
    """Jobs in two steps: their images are read, which may happen in advance, then the networks run."""

    def __call__(self, job: Any) -> Any:
        """Read a job's images and run the networks."""
        return self.ask(job, [self.decode(job, index) for index in range(len(job.images))])

    def decode(self, job: Any, index: int) -> Decoded:
        """Read one image of a job, and take the time."""
        start = time.perf_counter()
        entry, radiograph = self.read(job, index)
        return Decoded(entry, radiograph, time.perf_counter() - start)

    @abstractmethod
    def read(self, job: Any, index: int) -> tuple[ImageEntry, Radiograph | None]:
        """Read one image of a job; None where it cannot be."""

    @abstractmethod
    def ask(self, job: Any, decoded: Sequence[Decoded]) -> Any:
        """Run the networks on a job, all of whose images were read."""


@dataclass
class Detecting(Work):
    """Runs detectors on batches of images.

    Args:
        members: by name.
        max_size: longer side of the images that the networks see, at most, pixels.
        device: where the networks run; see :class:`Detector`.
        accepts: what they are made for.
        classes: what their labels stand for; each member's own classes by default.
    """

    members: Mapping[str, Member]
    max_size: int
    device: str | None = None
    accepts: Accepts = field(default_factory=Accepts)
    classes: EnsembleClasses = field(default_factory=EnsembleClasses)
    _detectors: dict[str, Detector] | None = field(default=None, init=False)

    @property
    def detectors(self) -> dict[str, Detector]:
        """By name, loaded at their first use.

        Raises:
            CovidmmError: a detector that cannot be loaded.
        """
        if self._detectors is None:
            indices = self.classes.indices or {}
            self._detectors = {
                name: Detector(member, name, self.device, indices=indices.get(name))
                for name, member in self.members.items()
            }
        return self._detectors

    def read(self, job: Batch, index: int) -> tuple[ImageEntry, Radiograph | None]:
        """Read one image; one that cannot be read, or is refused, gets an entry that says why."""
        image = job.images[index]
        try:
            one = image.read().shrunk(self.max_size)
            notes = (*one.notes, *self.accepts.check(one.header, image.labelled))
        except RadiographError as error:
            refused = isinstance(error, NotAcceptedError)
            return ImageEntry(image.image_id, image.study_id, 0, 0, str(error), refused), None
        size = one.header.height, one.header.width
        return ImageEntry(image.image_id, image.study_id, *size, notes=notes), one

    def ask(self, job: Batch, decoded: Sequence[Decoded]) -> Predicted:
        """Run each of the batch's members.

        Raises:
            CovidmmError: a detector that cannot be loaded.
        """
        taken = {"decode": sum(one.seconds for one in decoded)}
        if self._detectors is None:
            with timed(taken, "load"):
                _ = self.detectors
        radiographs = [one.radiograph for one in decoded if one.radiograph is not None]
        found = {}
        for name in job.members:
            with timed(taken, name):
                boxes = iter(self.detectors[name](radiographs))
                found[name] = [Detections.none() if one.radiograph is None else next(boxes) for one in decoded]
        return Predicted([one.entry for one in decoded], found, taken)

    def __reduce__(self) -> tuple[Any, ...]:
        return Detecting, (self.members, self.max_size, self.device, self.accepts, self.classes)


@dataclass
class Classifying(Work):
    """Runs the study classifier.

    Args:
        config: of the classifier.
        max_size: as :class:`Detecting`.
        classifier: what was built of the config; where None, or in another process, the plugins there build it.
        classes: what the labels of the boxes stand for.
    """

    config: Mapping[str, Any]
    max_size: int
    classifier: StudyClassifier | None = None
    classes: tuple[str, ...] = OPACITY

    def read(self, job: StudyJob, index: int) -> tuple[ImageEntry, Radiograph | None]:
        """Read one image, or only its size where the classifier looks at boxes alone.

        Raises:
            CovidmmError: a classifier that cannot be loaded; an image that could be read before.
        """
        image, (entry, _) = job.images[index], job.found[index]
        if entry.error is not None:
            return entry, None
        if getattr(self._loaded(), "uses_pixels", True):
            return entry, image.read().shrunk(self.max_size)
        return entry, Radiograph(Header(image.path, entry.height, entry.width), NO_PIXELS)

    def ask(self, job: StudyJob, decoded: Sequence[Decoded]) -> Classified:
        """Run the classifier on a study.

        Raises:
            CovidmmError: a classifier that cannot be loaded, that fails, or that returns no probabilities.
        """
        taken = {"decode": sum(one.seconds for one in decoded)}
        pairs = zip(decoded, job.found, strict=True)
        readable = [(one.radiograph, boxes) for one, (_, boxes) in pairs if one.radiograph is not None]
        values = None
        if readable:
            with timed(taken, "study"):
                study = Study(job.study_id, *zip(*readable, strict=True), self.classes)
                values = classify(self._loaded(), study)
        return Classified(job.study_id, values, taken)

    def _loaded(self) -> StudyClassifier:
        if self.classifier is None:
            self.classifier = plugins().build_study_classifier(self.config, self.classes)
        return self.classifier

    def __reduce__(self) -> tuple[Any, ...]:
        return Classifying, (self.config, self.max_size, None, self.classes)


def plugins() -> PluginManager:
    """covidmm's own plugins and those that are installed.

    Raises:
        PluginError: one that is broken.
    """
    return PluginManager([covidmm.ensembles, covidmm.studies])


def fuse(
    strategy: EnsembleStrategy,
    members: Mapping[str, Member],
    image: ImageEntry,
    found: Mapping[str, Detections],
    classes: EnsembleClasses,
) -> Detections:
    """Fuse one image: each member's boxes are selected, then fused, and the result is checked.

    A member that does not find a class has no vote on it: classes of other voters are fused apart.

    Args:
        strategy: fuses.
        members: of the ensemble.
        image: names the image and its size.
        found: by member, what it found there.
        classes: what the labels stand for.

    Raises:
        PluginError: a strategy that fails, or whose result is no set of boxes inside the image, of these classes.
        DataError: boxes that the strategy refuses.
    """
    size = image.height, image.width
    with _blaming(f"image '{image.image_id}'", strategy):
        chosen = {name: select(boxes, members[name]) for name, boxes in found.items()}
        groups: dict[tuple[str, ...], list[int]] = {}
        for label in range(len(classes.names)):
            groups.setdefault(classes.voters(label, tuple(found)), []).append(label)
        parts = []
        for voters, labels in groups.items():
            if not voters and found:
                continue
            own = [chosen[name] if len(groups) == 1 else chosen[name].of(labels) for name in voters]
            parts.append(strategy.fuse(own, [members[name].weight for name in voters], size))
            _require_boxes(parts[-1], size, len(classes.names))
        return parts[0] if len(parts) == 1 else Detections.joined(parts)


def classify(classifier: StudyClassifier, study: Study) -> NDArray[np.float64]:
    """(C,) probabilities of a study, checked.

    Raises:
        PluginError: a classifier that fails, or that returns no probabilities of its classes.
    """
    with _blaming(f"study '{study.identifier}'", classifier):
        values = np.asarray(classifier.classify(study), np.float64)
        labels = StudyLabels.of(classifier)
        right = values.shape == (len(labels.names),) and np.isfinite(values).all()
        if right and labels.multi_label:
            right = values.min() >= 0 and values.max() <= 1
        elif right:
            right = values.min() >= 0 and abs(values.sum() - 1) <= 1e-3
        if not right:
            shown, wanted = reprlib.repr(values.tolist()), "" if labels.multi_label else " that add up to 1"
            what = f"{len(labels.names)} probabilities{wanted}, of {', '.join(labels.names)}"
            raise PluginError(f"the study classifier answered {shown}, not {what}")
        return values


def _require_boxes(fused: Any, size: tuple[int, int], classes: int) -> None:
    """Refuse what is no set of boxes of an image of that height and width; scores are checked by ``Detections``."""
    if not isinstance(fused, Detections):
        raise PluginError(f"the ensemble strategy answered a {type(fused).__name__}, not Detections")
    limits = np.array([size[1], size[0]] * 2)
    outside = ((fused.boxes < -TOLERANCE) | (fused.boxes > limits + TOLERANCE)).any(1)
    inverted = (fused.boxes[:, 2:] < fused.boxes[:, :2]).any(1)
    unknown = (fused.labels < 0) | (fused.labels >= classes)
    for wrong, what in (
        (outside, f"a box outside {size[1]} x {size[0]} pixels"),
        (inverted, "a box with x2 < x1 or y2 < y1"),
        (unknown, f"a box of no class in 0..{classes - 1}"),
    ):
        if wrong.any():
            first = int(wrong.argmax())
            shown = f"{fused.boxes[first].tolist()}, label {fused.labels[first]}"
            raise PluginError(f"the ensemble strategy answered {what}: {shown}")


@contextmanager
def _blaming(where: str, plugin: object) -> Iterator[None]:
    """Make one line of any exception that a plugin raises."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    except PluginError as error:
        raise PluginError(f"{where}: {error}") from error
    except CovidmmError:
        raise
    except Exception as error:  # foreign code can fail in any way
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        raise PluginError(f"{where}: {type(plugin).__name__} failed: {cause}") from error


@contextmanager
def timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    """Add the time of a block to a step's seconds."""
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[step] = seconds.get(step, 0.0) + time.perf_counter() - start
