"""Publish a training checkpoint to the checkpoint store, where configs find it as ``covidmm://NAME``."""

from __future__ import annotations

import hashlib
import io
import math
import re
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from covidmm.errors import CheckpointError
from covidmm.models.checkpoints import TRAINING_IMAGES, checkpoint_store, read_checkpoint
from covidmm.models.state_dicts import state_of
from covidmm.utils.fileio import json_bytes, write_bytes

#: Of a training's ``meta``, in a published model: the threshold and the temperature that validation chose, the names of
#: its classes and its config, by which MMDetection's inferencer builds and shows it, and what it was trained on.
_KEPT = ("val_metrics", "dataset_meta", "cfg", "provenance", TRAINING_IMAGES)


def publish(checkpoint: Path, name: str, part: str = "backbone", replace: bool = False) -> list[str]:
    """Write the weights of a checkpoint, without optimizer and history, to the checkpoint store.

    Beside ``NAME.pth`` goes ``NAME.json``: its sha256, what it holds, the experiment, its config and seed, the
    validation metrics, and the date.

    Args:
        checkpoint: a checkpoint of ``tools/train.py``.
        name: what configs call it, ``covidmm://name``.
        part: ``backbone``, under the names of a bare backbone, or ``model`` for everything.
        replace: overwrite another checkpoint of that name.

    Returns:
        Lines that say what was written.

    Raises:
        CheckpointError: unreadable, without a backbone, a name that is no file name, or one that is taken.
    """
    if not re.fullmatch(r"[\w.-]+", name) or name.startswith("."):
        raise CheckpointError(f"{name}: not a name, use letters, digits, '_', '-' and '.'")
    trained = read_checkpoint(checkpoint)
    meta = trained.get("meta", {})
    try:
        state = state_of(trained, "backbone." if part == "backbone" else "")
    except CheckpointError as error:
        raise CheckpointError(f"{checkpoint}: {error}") from error
    if strange := [key for key, value in state.items() if not isinstance(value, torch.Tensor)]:
        raise CheckpointError(f"{checkpoint}: '{strange[0]}' is no tensor")
    content = {"state_dict": {key: value.detach().cpu().contiguous() for key, value in state.items()}}
    if part == "model":
        content["meta"] = {"val_metrics": {}, **{key: meta[key] for key in _KEPT if key in meta}}
    buffer = io.BytesIO()
    torch.save(content, buffer)
    data = buffer.getvalue()
    path = checkpoint_store() / f"{name}.pth"
    if path.exists() and path.read_bytes() != data and not replace:
        raise CheckpointError(f"{path}: holds other weights; choose another name or replace it with --replace")
    card = _card(meta, checkpoint, part, data)
    try:
        card_bytes = json_bytes({"name": name, **card}, indent=2)
    except (TypeError, ValueError) as error:  # the file's meta may hold anything
        raise CheckpointError(f"{checkpoint}: its meta cannot be written as JSON ({error})") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, data)
    write_bytes(path.with_suffix(".json"), card_bytes)
    count = sum(value.numel() for value in state.values())
    return [f"covidmm://{name}: {part} of {checkpoint}, {count:,} values", f"{path}: sha256 {card['sha256']}"]


def _card(meta: dict[str, Any], checkpoint: Path, part: str, data: bytes) -> dict[str, Any]:
    config = meta.get("cfg", "")
    roots = re.findall(r"data_root\s*=\s*'([^']+)'", config)
    return {
        "sha256": hashlib.sha256(data).hexdigest(),
        "part": part,
        "source": str(checkpoint),
        "experiment": meta.get("experiment_name"),
        "epoch": meta.get("epoch"),
        "seed": meta.get("seed"),
        "data": sorted(set(roots)),
        "provenance": meta.get("provenance"),
        "classes": list((meta.get("dataset_meta") or {}).get("classes", ())),
        "validation": {key: value for key, value in meta.get("val_metrics", {}).items() if math.isfinite(value)},
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "config": config,
    }
