"""An ensemble as a function: radiographs in, findings out."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from typing_extensions import Self

import covidmm.ensembles
import covidmm.studies
from covidmm import radiograph
from covidmm.datasets.image_folders import FolderImage, read_image_folder
from covidmm.ensembles.ensemble_config import EnsembleConfig, load_ensemble
from covidmm.errors import ConfigError, CovidmmError, RadiographError
from covidmm.findings import Detections, ImageFindings, Study, StudyFindings
from covidmm.inference.detector import Detector, select
from covidmm.inference.read_ahead import read_ahead
from covidmm.plugins import PluginManager
from covidmm.radiograph import Radiograph
from covidmm.radiograph import sandbox as isolation

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom import Dataset

Source: TypeAlias = "str | Path | NDArray | Dataset | Radiograph"


@dataclass(frozen=True)
class _Image:
    image_id: str
    study_id: str
    radiograph: Radiograph | None
    error: str | None = None


class Predictor:
    """Detectors, their fusion and a study classifier, loaded once.

    Args:
        config: as :func:`covidmm.ensembles.ensemble_config.load_ensemble` gives it.
        device: where the networks run; CUDA where there is one by default.

    Raises:
        CovidmmError: a config, checkpoint or plugin that cannot be used.
    """

    def __init__(self, config: EnsembleConfig, device: str | None = None) -> None:
        manager = self._manager = PluginManager([covidmm.ensembles, covidmm.studies])
        self.config = config
        self.strategy = manager.build_strategy(config.strategy)
        self.classifier = manager.build_study_classifier(config.study) if config.study else None
        self.detectors = {name: Detector(member, name, device) for name, member in config.members.items()}

    @classmethod
    def from_config(cls, path: str | Path, options: Sequence[str] = (), device: str | None = None) -> Self:
        """Load the ensemble of a config file; see :class:`Predictor`."""
        return cls(load_ensemble(path, options), device)

    def variant(self, member: str | None = None, strategy: Mapping[str, Any] | None = None) -> Self:
        """The same networks, loaded once, with one member alone or another strategy.

        Args:
            member: its name; None for all of them.
            strategy: type and arguments; None for the config's, or for the boxes as they are of a single member.

        Raises:
            ConfigError: there is no such member.
            PluginError: a strategy that cannot be built.
        """
        names = list(self.detectors) if member is None else [member]
        for name in names:
            if name not in self.detectors:
                raise ConfigError(f"there is no member '{name}'; there are: {', '.join(self.detectors)}")
        alone = {"type": "best_single"} if len(names) < len(self.detectors) else self.config.strategy
        chosen = alone if strategy is None else strategy
        other = copy.copy(self)
        members = {name: self.config.members[name] for name in names}
        other.config = replace(self.config, members=members, strategy=chosen)
        other.detectors = {name: self.detectors[name] for name in names}
        other.strategy = self._manager.build_strategy(chosen)
        return other

    @property
    def strategies(self) -> list[str]:
        """The strategies that can be chosen by name alone, the config's first."""
        first = str(self.config.strategy["type"])
        return [first, *(name for name in self._manager.strategies if name != first and self._builds(name))]

    def _builds(self, name: str) -> bool:
        try:
            self._manager.build_strategy({"type": name})
        except CovidmmError:
            return False
        return True

    def __call__(
        self, sources: Source | Sequence[Source], errors: Literal["raise", "report"] = "raise"
    ) -> list[StudyFindings]:
        """Find opacities and classify studies.

        Args:
            sources: one or several of: a file or a folder; a grey image (height, width), air black; a pydicom
                dataset; a :class:`~covidmm.radiograph.Radiograph`. Images of one study, by its UID or the layout of
                the folder, are classified together; an image without one is a study of its own.
            errors: ``report`` goes on after an image that cannot be read and says so in its findings.

        Returns:
            One value per study, in the order of their first images; boxes in pixels of the original images.

        Raises:
            RadiographError: an image cannot be read, unless ``errors`` is ``report``.
            DataError: a folder without images.
        """
        listed = list(sources) if isinstance(sources, list | tuple) else [sources]
        found: dict[str, list[tuple[_Image, ImageFindings]]] = {}
        batch: list[_Image] = []
        images = (_shrunk(image, self.config.max_size) for image in _images(listed, errors == "report"))
        for image in read_ahead(images, self.config.batch_size):
            batch.append(image)
            if len(batch) == self.config.batch_size:
                self._predict(batch, found)
                batch = []
        self._predict(batch, found)
        return [self._study(study_id, entries) for study_id, entries in found.items()]

    def _predict(self, batch: Sequence[_Image], found: dict[str, list[tuple[_Image, ImageFindings]]]) -> None:
        readable = [one.radiograph for one in batch if one.radiograph is not None]
        by_member = {name: iter(detector(readable)) for name, detector in self.detectors.items()}
        weights = [member.weight for member in self.config.members.values()]
        for one in batch:
            if one.radiograph is None:
                findings = ImageFindings(one.image_id, 0, 0, {}, Detections.none(), one.error)
            else:
                size = one.radiograph.header.height, one.radiograph.header.width
                members = {name: next(boxes) for name, boxes in by_member.items()}
                chosen = [select(boxes, self.config.members[name]) for name, boxes in members.items()]
                fused = self.strategy.fuse(chosen, weights, size)
                findings = ImageFindings(one.image_id, *size, members, fused)
            found.setdefault(one.study_id, []).append((one, findings))

    def _study(self, study_id: str, entries: Sequence[tuple[_Image, ImageFindings]]) -> StudyFindings:
        images = [findings for _, findings in entries]
        readable = [(one.radiograph, findings.fused) for one, findings in entries if one.radiograph is not None]
        probabilities = None
        if self.classifier is not None and readable:
            radiographs, detections = zip(*readable, strict=True)
            probabilities = np.asarray(self.classifier.classify(Study(study_id, radiographs, detections)), np.float32)
        return StudyFindings(study_id, images, probabilities)


def _images(sources: Sequence[Source], report: bool) -> Iterator[_Image]:
    numbers = count(1)
    for source in sources:
        if isinstance(source, str | Path) and Path(source).is_dir():
            for case in read_image_folder(source).images:
                yield _read(case.image_id, case.study_id, case, report)
        elif isinstance(source, str | Path):
            yield _read(Path(source).stem, None, source, report)
        else:
            yield _read(f"image{next(numbers)}", None, source, report)


def _shrunk(image: _Image, max_size: int) -> _Image:
    return image if image.radiograph is None else replace(image, radiograph=image.radiograph.shrunk(max_size))


def _read(image_id: str, study_id: str | None, source: Source | FolderImage, report: bool) -> _Image:
    try:
        one = _radiograph(source)
    except RadiographError as error:
        if not report:
            raise
        return _Image(image_id, study_id or image_id, None, str(error))
    if study_id is None:
        image_id = one.header.image or image_id
        study_id = one.header.study or image_id
    return _Image(image_id, study_id, one)


def _radiograph(source: Source | FolderImage) -> Radiograph:
    if isinstance(source, Radiograph):
        return source
    if isinstance(source, FolderImage):
        return source.read()
    if isinstance(source, str | Path):
        return isolation.read(source)
    if isinstance(source, np.ndarray):
        return radiograph.of_array(source)
    return radiograph.of_dataset(source)
