"""What a folder run asks of its networks, as functions that another process can run as well.

Each of them travels without its networks and loads them where it is first called.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from covidmm.datasets.image_folders import FolderImage
from covidmm.ensembles.ensemble_config import Member
from covidmm.errors import DataError, RadiographError
from covidmm.findings import Detections, Study
from covidmm.inference.detector import Detector
from covidmm.outputs.predictions import ImageEntry
from covidmm.plugins import StudyClassifier
from covidmm.radiograph import Header, Radiograph


class Batch(NamedTuple):
    """Some images, and the members that are to predict them."""

    cases: Sequence[FolderImage]
    members: Sequence[str]


class StudyJob(NamedTuple):
    """One study: its images with the ensemble's boxes."""

    study_id: str
    cases: Sequence[FolderImage]
    found: Sequence[tuple[ImageEntry, Detections]]


@contextmanager
def timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    """Add the time of a block to a step's seconds."""
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[step] = seconds.get(step, 0.0) + time.perf_counter() - start


class Predicted(NamedTuple):
    """What the members found in a batch: entries and, per member, boxes; and how long it took."""

    entries: list[ImageEntry]
    found: dict[str, list[Detections]]
    seconds: dict[str, float]


class Classified(NamedTuple):
    """A study's four probabilities, None without a readable image; and how long it took."""

    study_id: str
    values: list[float] | None
    seconds: dict[str, float]


@dataclass
class Detecting:
    """Decodes batches and asks detectors for boxes.

    Args:
        members: by name.
        max_size: longer side of the images that the networks see, at most, pixels.
    """

    members: Mapping[str, Member]
    max_size: int
    _detectors: dict[str, Detector] | None = field(default=None, init=False)

    def __call__(self, batch: Batch) -> Predicted:
        """Decode the images once and ask each of the batch's members.

        Raises:
            CovidmmError: a detector that cannot be loaded. An image that cannot be read does not raise.
        """
        taken: dict[str, float] = {}
        if self._detectors is None:
            with timed(taken, "load"):
                self._detectors = {name: Detector(member, name) for name, member in self.members.items()}
        with timed(taken, "decode"):
            entries, radiographs = _read_all(batch.cases, self.max_size)
        found = {}
        for name in batch.members:
            with timed(taken, name):
                found[name] = _detect(self._detectors[name], radiographs)
        return Predicted(entries, found, taken)

    def __reduce__(self) -> tuple[Any, ...]:
        return Detecting, (self.members, self.max_size)


@dataclass
class Classifying:
    """Asks the study classifier for probabilities.

    Args:
        config: of the classifier.
        max_size: as :class:`Detecting`.
        build: makes a classifier of its config.
    """

    config: Mapping[str, Any]
    max_size: int
    build: Callable[[Mapping[str, Any]], StudyClassifier]
    _classifier: StudyClassifier | None = field(default=None, init=False)

    @property
    def classifier(self) -> StudyClassifier:
        """Loaded when it is first asked for."""
        if self._classifier is None:
            self._classifier = self.build(self.config)
        return self._classifier

    def __call__(self, job: StudyJob) -> Classified:
        """Read a study's images, if the classifier looks at pixels, and ask it.

        Raises:
            CovidmmError: a classifier that cannot be loaded, or that answers with no probabilities.
        """
        taken: dict[str, float] = {}
        pixels = getattr(self.classifier, "uses_pixels", True)
        with timed(taken, "decode"):
            readable = [
                (case.read().shrunk(self.max_size) if pixels else _blank(case, entry), detections)
                for case, (entry, detections) in zip(job.cases, job.found, strict=True)
                if entry.error is None
            ]
        with timed(taken, "study"):
            values = None
            if readable:
                radiographs, detections = zip(*readable, strict=True)
                values = _checked(self.classifier.classify(Study(job.study_id, radiographs, detections)), job.study_id)
        return Classified(job.study_id, values, taken)

    def __reduce__(self) -> tuple[Any, ...]:
        return Classifying, (self.config, self.max_size, build_classifier)


def build_classifier(config: Mapping[str, Any]) -> StudyClassifier:
    """The study classifier of a config, by the plugins of this process.

    Raises:
        CovidmmError: an unknown classifier, or one that cannot be used.
    """
    import covidmm.ensembles
    import covidmm.studies
    from covidmm.plugins import PluginManager

    return PluginManager([covidmm.ensembles, covidmm.studies]).build_study_classifier(config)


def _read_all(batch: Sequence[FolderImage], max_size: int) -> tuple[list[ImageEntry], list[Radiograph | None]]:
    """Decode some images; one that cannot be read gets an entry that says why, and None."""
    entries, radiographs = [], []
    for case in batch:
        try:
            one = case.read().shrunk(max_size)
            entry = ImageEntry(case.image_id, case.study_id, one.header.height, one.header.width)
        except RadiographError as error:
            one, entry = None, ImageEntry(case.image_id, case.study_id, 0, 0, str(error))
        entries.append(entry)
        radiographs.append(one)
    return entries, radiographs


def _detect(detector: Detector, radiographs: Sequence[Radiograph | None]) -> list[Detections]:
    found = iter(detector([one for one in radiographs if one is not None]))
    return [Detections.none() if one is None else next(found) for one in radiographs]


def _blank(case: FolderImage, entry: ImageEntry) -> Radiograph:
    """A radiograph without pixels, for a classifier that looks at boxes alone."""
    return Radiograph(Header(case.path, entry.height, entry.width), np.zeros((0, 0), np.uint8))


def _checked(values: Any, study_id: str) -> list[float]:
    values = np.asarray(values, np.float64)
    if values.shape != (4,) or not np.isfinite(values).all() or values.min() < 0 or abs(values.sum() - 1) > 1e-3:
        raise DataError(f"study '{study_id}': the study classifier answered {values.tolist()}, not four probabilities")
    return [round(value, 6) for value in values.tolist()]
