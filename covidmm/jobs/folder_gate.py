"""The gate of an ensemble over a folder: probabilities and boxes, kept in files beside the predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from covidmm.ensembles.ensemble_config import EnsembleConfig
from covidmm.ensembles.gate import Gate
from covidmm.findings import Detections
from covidmm.jobs.study_answers import with_checkpoints
from covidmm.outputs.predictions import Predictions, PredictionsWriter
from covidmm.plugins import PluginManager, StudyClassifier

if TYPE_CHECKING:
    from covidmm.jobs.folder_run import FolderRun

#: The folder beside the predictions with what the gate is applied to and what it says; also a step's name.
GATE = "gate"
#: The file of the fused boxes in front of the gate.
FUSION = "fusion"
_AT_ONCE = 64
_Classify = Callable[["FolderRun", StudyClassifier, Predictions], "dict[str, list[float]] | None"]


def gate_key(config: EnsembleConfig) -> dict[str, Any]:
    """What of the gate decides the fused boxes, hashes of its checkpoints included; nothing without a gate."""
    if config.gate is None:
        return {}
    classifier = config.study if config.gate.classifier is None else config.gate.classifier
    return {GATE: {**asdict(config.gate), "classifier": with_checkpoints(classifier)}}


@dataclass(frozen=True)
class FolderGate:
    """A gate, its classifier, and the run that it belongs to."""

    run: FolderRun
    gate: Gate
    classifier: StudyClassifier

    @classmethod
    def of(cls, run: FolderRun, manager: PluginManager, study: StudyClassifier | None) -> FolderGate | None:
        """The gate of a run's config, None where it has none.

        Raises:
            CovidmmError: a classifier that cannot be used.
        """
        gate = run.config.gate
        if gate is None:
            return None
        return cls(run, gate, gate.build_classifier(run.config.path, manager, study, run.classes.names))

    @property
    def before(self) -> FolderRun:
        """The run as it is in front of the gate."""
        return replace(self.run, config=replace(self.run.config, gate=None), folder=self.run.folder / GATE)

    def __call__(
        self, fused: Predictions, studies: Mapping[str, list[float]] | None, classify: _Classify, name: str
    ) -> Predictions:
        """Write the boxes behind the gate.

        Args:
            fused: the boxes in front of it.
            studies: what the ensemble's own classifier says of them.
            classify: asks a classifier and keeps its answers.
            name: of the predictions that are written.

        Raises:
            CovidmmError: a classifier that fails; a damaged file of an earlier run.
        """
        key = {**fused.fingerprint, **gate_key(self.run.config)}
        answers, by_image = self._answers(fused, studies, classify), self.gate.level == "image"
        with PredictionsWriter(self.run.folder, name, key, resume=False) as writer:
            pairs = iter(fused)
            while batch := list(islice(pairs, _AT_ONCE)):
                rows = []
                for image, found in batch:
                    own = answers.get(image.image_id if by_image else image.study_id)
                    passed = Detections.none() if own is None else self._passed(found, own)
                    rows.append((image, passed))
                writer.add(rows)
            return writer.finish()

    def _passed(self, found: Detections, values: list[float]) -> Detections:
        return self.gate(found, self.gate.anything(self.classifier, values))

    def _answers(
        self, fused: Predictions, studies: Mapping[str, list[float]] | None, classify: _Classify
    ) -> Mapping[str, list[float]]:
        """The classifier's probabilities by study or, at the level of images, by image; none of what cannot be read."""
        own, config = self.gate.classifier, self.run.config
        if own is None and self.gate.level == "study":
            return studies or {}
        before = replace(self.before, config=replace(config, gate=None, study=own or config.study), fresh=[])
        if self.gate.level == "image":
            images = tuple(replace(image, study_id=image.image_id) for image in before.cases.images)
            before = replace(before, cases=replace(before.cases, images=images))
            fused = replace(fused, images=[image._replace(study_id=image.image_id) for image in fused.images])
        answers = classify(before, self.classifier, fused)
        self.run.fresh.extend([GATE] if before.fresh else [])
        return answers or {}
