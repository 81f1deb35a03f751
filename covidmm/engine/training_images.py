"""Which images trained a checkpoint, and that nothing is chosen or scored on them.

A training writes the key of each of its images into ``meta['training_images']`` of its checkpoints: eight bytes of a
hash of study and image id, the same in every folder that the image was prepared into.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from covidmm.datasets.prepared_folder import read_annotations
from covidmm.errors import CheckpointError, DataError
from covidmm.models.checkpoints import TRAINING_IMAGES, read_checkpoint
from covidmm.utils.distributed import is_first

#: Study and image id.
Names = tuple[str, str]


def image_key(study_id: str, image_id: str) -> int:
    """The key of an image, a signed number of 64 bits."""
    digest = hashlib.sha256(f"{study_id}\n{image_id}".encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def names_in(dataset: Mapping[str, Any]) -> list[Names] | None:
    """Study and image id of every image of a data set's config; None where no COCO file lists them.

    An image without an id of its own goes by the name of its file.
    """
    if "dataset" in dataset:  # wrapped
        return names_in(dataset["dataset"])
    if "datasets" in dataset:
        parts = [names_in(one) for one in dataset["datasets"]]
        return None if None in parts else [names for part in parts for names in part or ()]
    path = Path(dataset.get("data_root") or "", dataset.get("ann_file") or "")
    try:
        images = read_annotations(path, empty=True)["images"]
    except DataError:  # of another format, or gone since the training began
        return None
    return [(one.get("study_id") or "", one.get("image_id") or Path(one["file_name"]).stem) for one in images]


def training_images(dataset: Mapping[str, Any], earlier: Tensor | None = None) -> Tensor | None:
    """(N,) int64 sorted keys of the images of a training, and of those that trained the weights that it began with.

    Args:
        dataset: config of the training data set.
        earlier: of the checkpoint that the training began with, or is resumed from.
    """
    names = names_in(dataset)
    if names is None:
        return earlier
    own = torch.tensor([image_key(*one) for one in names], dtype=torch.int64)
    return torch.unique(own if earlier is None else torch.cat([own, earlier.long()]))


def require_unseen(checkpoints: Mapping[str, Path], images: Iterable[Names], where: str, allowed: bool = False) -> None:
    """Refuse to choose or to score by images that trained a model.

    Args:
        checkpoints: files by the name of the model.
        images: study and image id of each.
        where: what the images are, for messages.
        allowed: say it and go on.

    Raises:
        CheckpointError: an image trained a model; names the model.
    """
    listed: Sequence[Names] = list(images)
    keys = np.array([image_key(*one) for one in listed], np.int64)
    lines, unknown = [], []
    for name, path in checkpoints.items():
        stored = (read_checkpoint(path).get("meta") or {}).get(TRAINING_IMAGES)
        if stored is None:
            unknown.append(name)
            continue
        seen = np.flatnonzero(np.isin(keys, stored.numpy()))
        if not len(seen):
            continue
        line = f"{name}: {len(seen)} of the {len(listed)} images of {where} trained it, such as '{listed[seen[0]][1]}'"
        if not allowed:
            raise CheckpointError(f"{line}; take other images, or add --allow-training-images")
        lines.append(f"warning: {line}: what is chosen or measured there is too good")
    if unknown:
        lines.append(f"unknown, for the checkpoint does not say it: whether {where} trained {', '.join(unknown)}")
    if lines and is_first():
        print("\n".join(lines))
