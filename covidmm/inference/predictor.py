"""An ensemble as a function: radiographs in, findings out."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from typing_extensions import Self

from covidmm import radiograph
from covidmm.datasets.image_folders import FolderImage, read_image_folder
from covidmm.ensembles.ensemble_config import EnsembleConfig, load_ensemble
from covidmm.errors import ConfigError, CovidmmError, NotAcceptedError, RadiographError, did_you_mean
from covidmm.findings import Detections, ImageFindings, Study, StudyFindings, StudyLabels
from covidmm.inference.core import NO_PIXELS, Batch, Decoded, Detecting, classify, fuse, plugins
from covidmm.inference.detector import Detector
from covidmm.inference.ensemble_classes import EnsembleClasses
from covidmm.inference.mapping import decoded_ahead
from covidmm.outputs.predictions import ImageEntry
from covidmm.radiograph import Radiograph, sandbox
from covidmm.radiograph.found_files import name_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image
    from pydicom import Dataset
    from torch import Tensor

Source: TypeAlias = "str | Path | NDArray | Tensor | Image | Dataset | Radiograph"


@dataclass(frozen=True)
class _Single:
    """An image of its own; its header may know it, and its study, by other names."""

    source: Source
    image_id: str
    labelled: bool = False

    @property
    def study_id(self) -> str:
        return self.image_id

    def read(self) -> Radiograph:
        return _radiograph(self.source, self.image_id)


class Predictor:
    """Detectors, their fusion and a study classifier, loaded once.

    Args:
        config: as :func:`covidmm.ensembles.ensemble_config.load_ensemble` gives it.
        device: where the networks run; CUDA where there is one by default.

    Raises:
        CovidmmError: a config, checkpoint or plugin that cannot be used.
    """

    def __init__(self, config: EnsembleConfig, device: str | None = None) -> None:
        self._manager = plugins()
        self.config = config
        self.strategy = config.build_strategy(self._manager)
        self.classes = EnsembleClasses.of(config)
        self.classifier = config.build_classifier(self._manager, self.classes.names)
        self.study_labels = StudyLabels.of(self.classifier)
        gate, found = config.gate, self.classes.names
        self.gate_classifier = gate and gate.build_classifier(config.path, self._manager, self.classifier, found)
        self.classes.require_fits(self.strategy)
        self._detecting = Detecting(config.members, config.max_size, device, config.accepts, self.classes)
        self.detectors: Mapping[str, Detector] = self._detecting.detectors

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
                near = did_you_mean(name, self.detectors)
                raise ConfigError(f"there is no member '{name}', there are {', '.join(self.detectors)}{near}")
        alone = {"type": "best_single"} if len(names) < len(self.detectors) else self.config.strategy
        chosen = alone if strategy is None else strategy
        other = copy.copy(self)
        members = {name: self.config.members[name] for name in names}
        # a single member's boxes are shown as they are
        gate = self.config.gate if len(names) == len(self.detectors) else None
        other.config = replace(self.config, members=members, strategy=chosen, gate=gate)
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

        Two batches of images are in memory at a time, and those of the studies that are not yet whole: of a single
        folder that is one study.

        Args:
            sources: one or several of: a file; a folder, of which a warning says what is left out; an array, tensor or
                image of Pillow, as :func:`covidmm.radiograph.of_array` reads it; a pydicom dataset; a
                :class:`~covidmm.radiograph.Radiograph`. Images of one study, by its UID or the layout of the folder,
                are classified together; an image without one is a study of its own.
            errors: ``report`` continues after an image that cannot be read or is refused; its findings hold the error.

        Returns:
            One value per study, in the order of their first images; boxes in pixels of the original images.

        Raises:
            RadiographError: an image cannot be read, unless ``errors`` is ``report``; a ``NotAcceptedError`` where it
                is of a kind that the models are not made for, by ``accepts`` of the config.
            DataError: a folder without images.
            PluginError: a strategy or study classifier that fails, or whose answer is none.
        """
        listed = list(sources) if isinstance(sources, list | tuple) else [sources]
        found: dict[str, StudyFindings] = {}
        waiting: dict[str, list[tuple[Radiograph | None, ImageFindings]]] = {}
        for study_id, one, findings in self._predict(_images(listed), errors == "report"):
            if len(listed) == 1 and study_id not in waiting:  # a folder's images come study by study
                found |= self._classified(waiting)
                waiting = {}
            waiting.setdefault(study_id, []).append((one, findings))
        return list((found | self._classified(waiting)).values())

    def _predict(
        self, images: Iterator[FolderImage | _Single], report: bool
    ) -> Iterator[tuple[str, Radiograph | None, ImageFindings]]:
        """Study, radiograph and findings of every image; no pixels where the study classifier needs none."""
        size, names = self.config.batch_size, list(self.config.members)
        batches = (Batch(batch, names) for batch in iter(lambda: list(islice(images, size)), []))
        classifiers = [one for one in (self.classifier, self.config.gate and self.gate_classifier) if one is not None]
        pixels = any(getattr(one, "uses_pixels", True) for one in classifiers)
        for batch, decoded in decoded_ahead(self._detecting, batches):
            for one in decoded:
                if one.entry.error is not None and not report:
                    raise (NotAcceptedError if one.entry.refused else RadiographError)(one.entry.error)
            found = self._detecting.ask(batch, decoded).found
            for index, (image, one) in enumerate(zip(batch.images, decoded, strict=True)):
                entry, kept = _named(image, one), one.radiograph
                if kept is None:
                    members, fused = {}, Detections.none()
                else:
                    members = {name: boxes[index] for name, boxes in found.items()}
                    fused = fuse(self.strategy, self.config.members, entry, members, self.classes)
                    kept = kept if pixels else replace(kept, pixels=NO_PIXELS)
                findings = ImageFindings(
                    entry.image_id, entry.height, entry.width, members, fused, entry.error, entry.notes
                )
                yield entry.study_id, kept, findings

    def _classified(
        self, studies: Mapping[str, Sequence[tuple[Radiograph | None, ImageFindings]]]
    ) -> dict[str, StudyFindings]:
        found = {}
        for study_id, images in studies.items():
            readable = [(one, findings.fused) for one, findings in images if one is not None]
            probabilities = None
            if self.classifier is not None and readable:
                study = Study(study_id, *zip(*readable, strict=True), self.classes.names)
                probabilities = classify(self.classifier, study).astype(np.float32)
            listed = [findings for _, findings in images]
            if self.config.gate is not None:
                listed = self._gated(study_id, images, probabilities)
            found[study_id] = StudyFindings(study_id, listed, probabilities, self.classes.names, self.study_labels)
        return found

    def _gated(
        self,
        study_id: str,
        images: Sequence[tuple[Radiograph | None, ImageFindings]],
        probabilities: NDArray | None,
    ) -> list[ImageFindings]:
        """The findings of a study behind the gate; ``probabilities`` are those of the ensemble's own classifier."""
        gate, readable = self.config.gate, [(one, own.fused) for one, own in images if one is not None]
        values = probabilities
        if readable and gate.level == "study" and gate.classifier is not None:
            values = self._asked(study_id, readable)
        passed = []
        for one, own in images:
            if one is not None:
                answer = self._asked(own.image_id, [(one, own.fused)]) if gate.level == "image" else values
                fused = gate(own.fused, gate.anything(self.gate_classifier, answer))
                passed.append(replace(own, fused=fused))
            else:
                passed.append(own)
        return passed

    def _asked(self, name: str, images: Sequence[tuple[Radiograph, Detections]]) -> NDArray:
        """What the gate's classifier says of some images."""
        return classify(self.gate_classifier, Study(name, *zip(*images, strict=True), self.classes.names))


def _images(sources: Sequence[Source]) -> Iterator[FolderImage | _Single]:
    numbers = count(1)
    for source in sources:
        if isinstance(source, str | Path) and Path(source).is_dir():
            folder = read_image_folder(source)
            if first := next(iter(folder.left_out), None):
                shown = f"{len(folder.left_out)}, the first: {first.path}: {first.cause}"
                warnings.warn(f"{source}: files that are left out: {shown}", stacklevel=2)
            yield from folder.images
        else:
            name = name_of(Path(source)) if isinstance(source, str | Path) else f"image{next(numbers)}"
            yield _Single(source, name)


def _named(image: FolderImage | _Single, decoded: Decoded) -> ImageEntry:
    """The entry of an image, under the names in its header unless a folder gave it others."""
    if isinstance(image, FolderImage) or decoded.radiograph is None:
        return decoded.entry
    header = decoded.radiograph.header
    image_id = header.image or image.image_id
    return decoded.entry._replace(image_id=image_id, study_id=header.study or image_id)


def _radiograph(source: Source, name: str = "image") -> Radiograph:
    from pydicom import Dataset

    if isinstance(source, Radiograph):
        return source
    if isinstance(source, str | Path):
        return sandbox.read(source)
    if isinstance(source, Dataset):
        return radiograph.of_dataset(source)
    return radiograph.of_array(source, f"{name}: array")
