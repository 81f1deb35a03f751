"""What an ensemble made of a folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from covidmm.errors import DataError
from covidmm.jobs.fusion import ENSEMBLE, fuse_folder
from covidmm.jobs.prediction import FolderRun, classify_studies, predict_members
from covidmm.outputs.predictions import Predictions
from covidmm.plugins import PluginManager
from covidmm.utils.provenance import sha256, versions

#: What a hash of a folder is of. The bytes of a raw one would have to be read a second time.
_PREPARED = "annotations of the split, and grey values"
_FILES_AS_LISTED = "names, sizes and times of change of the files"


@dataclass
class Outcome:
    """One folder, predicted and fused.

    Attributes:
        run: the ensemble and its folder.
        members: what each detector predicted.
        fused: what the ensemble makes of it.
        studies: probabilities by study, None where no classifier is asked; studies without a readable image lack.
    """

    run: FolderRun
    members: Mapping[str, Predictions]
    fused: Predictions
    studies: Mapping[str, list[float]] | None

    @property
    def detectors(self) -> dict[str, Predictions]:
        """Members and ensemble by name."""
        return {**self.members, ENSEMBLE: self.fused}

    def origin(self) -> dict[str, Any]:
        """What the findings came from: config, models, data, versions; the same for the same command."""
        from covidmm.engine.checkpointing import checkpoint_hashes

        config, cases = self.run.config, self.run.cases
        return {
            "config": str(config.path),
            "config_sha256": sha256(config.path),
            "config_resolved_sha256": config.sha256,
            "strategy": dict(config.strategy),
            "members": {name: dict(one.fingerprint) for name, one in self.members.items()},
            "study": config.study,
            "study_checkpoints_sha256": checkpoint_hashes(config.study),
            "data": str(cases.source),
            "data_sha256": cases.sha256,
            "data_sha256_covers": _FILES_AS_LISTED if cases.annotations is None else _PREPARED,
            "versions": versions(),
        }


def run_folder(run: FolderRun, manager: PluginManager) -> Outcome:
    """Predict, fuse and classify one folder.

    Raises:
        CovidmmError: a config, checkpoint, image folder or plugin that cannot be used.
    """
    # built first: a misspelt name should not cost a prediction
    strategy = manager.build_strategy(run.config.strategy)
    members = predict_members(run)
    fused = fuse_folder(run, strategy, members)
    if all(image.error for image in fused.images):
        raise DataError(f"{run.cases.source}: no image can be read, the first: {fused.images[0].error}")
    return Outcome(run, members, fused, classify_studies(run, manager, fused, fused.fingerprint))
