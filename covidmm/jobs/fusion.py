"""The members' predictions of a folder, fused image by image into those of the ensemble."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from covidmm.ensembles.ensemble_config import EnsembleConfig
from covidmm.errors import DataError
from covidmm.findings import Detections
from covidmm.inference.detector import select
from covidmm.jobs.prediction import FolderRun
from covidmm.outputs.predictions import ImageEntry, Predictions, PredictionsWriter
from covidmm.plugins import EnsembleStrategy

#: Name of the ensemble's own predictions among its members'.
ENSEMBLE = "ensemble"
_BATCH = 64


def fuse_folder(run: FolderRun, strategy: EnsembleStrategy, members: Mapping[str, Predictions]) -> Predictions:
    """Fuse the members' predictions; no model is run, and memory does not grow with the folder.

    Raises:
        DataError: members that cover other images, or a file of predictions that is damaged.
    """
    stamp = fusion_stamp(run.config, members)
    with PredictionsWriter(run.folder, ENSEMBLE, stamp, resume=False) as writer:
        pairs = fused(run, strategy, members)
        while batch := list(islice(pairs, _BATCH)):
            with run.timed("write"):
                writer.add(batch)
        with run.timed("write"):
            return writer.finish()


def fused(
    run: FolderRun, strategy: EnsembleStrategy, members: Mapping[str, Predictions]
) -> Iterator[tuple[ImageEntry, Detections]]:
    """Each image with its fused boxes."""
    weights = [member.weight for member in run.config.members.values()]
    for image, found in joined(members):
        if image.error:
            yield image, Detections.none()
            continue
        with run.timed("fusion"):
            chosen = [select(one, run.config.members[name]) for name, one in found.items()]
            try:
                result = strategy.fuse(chosen, weights, (image.height, image.width))
            except DataError as error:
                raise DataError(f"image '{image.image_id}': {error}") from error
        yield image, result


def joined(members: Mapping[str, Predictions]) -> Iterator[tuple[ImageEntry, dict[str, Detections]]]:
    """Each image with the boxes of every member.

    Raises:
        DataError: members that cover other images.
    """
    first, *others = members.values()
    for other in others:
        _require_same_images(first, other)
    for rows in zip(*members.values(), strict=True):
        yield rows[0][0], {name: found for name, (_, found) in zip(members, rows, strict=True)}


def fusion_stamp(config: EnsembleConfig, members: Mapping[str, Predictions]) -> dict[str, Any]:
    """What decides the fused boxes."""
    return {
        "strategy": dict(config.strategy),
        "members": {
            name: {**dataclasses.asdict(config.members[name]), **found.fingerprint} for name, found in members.items()
        },
    }


def _require_same_images(first: Predictions, other: Predictions) -> None:
    mine, theirs = ([(image.image_id, image.height, image.width) for image in one.images] for one in (first, other))
    if mine == theirs:
        return
    missing = sorted({entry[0] for entry in mine} - {entry[0] for entry in theirs})
    strange = sorted({entry[0] for entry in theirs} - {entry[0] for entry in mine})
    for ids, without, with_ in ((missing, other, first), (strange, first, other)):
        if ids:
            raise DataError(
                f"{_name(without)}: lacks {len(ids)} of the images of {_name(with_)}, such as '{ids[0]}'; "
                "remove the file to predict again"
            )
    raise DataError(f"{_name(other)}: has the images of {_name(first)} in another order or size")


def _name(predictions: Predictions) -> Path:
    return predictions.path
