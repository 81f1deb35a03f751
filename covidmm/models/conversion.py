"""Conversion of checkpoint files: what ``tools/convert_checkpoint.py`` does."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from covidmm.atomic import write_bytes
from covidmm.errors import CheckpointError
from covidmm.models.checkpoints import read_checkpoint, state_of
from covidmm.models.foreign import read_foreign_checkpoint
from covidmm.models.yolov5.conversion import convert_state, without_head


def convert_yolov5(source: Path, out: Path, num_classes: int | None = None) -> list[str]:
    """Convert a published YOLOv5 checkpoint.

    Args:
        source: a ``.pt`` file, a pickle of the whole model; nothing in it is executed.
        out: the file to write, for ``load_from`` or ``init_cfg=dict(type='Pretrained', checkpoint=...)``.
        num_classes: classes of the model to fill. If the file has another number, its head is left out and the
            model keeps its own initialisation there.

    Returns:
        Lines that say what was read and written.

    Raises:
        CheckpointError: ``source`` is damaged, malicious or another model; ``out`` cannot be written.
    """
    _refuse_same(source, out)
    published = read_foreign_checkpoint(source)
    try:
        converted = convert_state(published)
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error
    state, lines = converted.state, [f"{source}: {converted}"]
    if num_classes not in (None, converted.num_classes):
        state = without_head(converted)
        lines.append(f"head left out, for {num_classes} instead of {converted.num_classes} classes: it starts anew")
    anchors = [[tuple(round(float(side)) for side in one) for one in level] for level in converted.anchors]
    lines.append(f"anchors: base_sizes={anchors}")
    return [*lines, _write(out, state, source, str(converted))]


def convert_resnet(source: Path, out: Path, kind: str) -> list[str]:
    """Convert a ResNet or ResNeXt of torchvision or timm; both use the names of MMDetection's backbones already.

    Args:
        source: a state dict, read with weights only, or a ``.safetensors`` file.
        out: the file to write; its names begin with nothing, as ``model.backbone.init_cfg`` expects.
        kind: ``torchvision`` or ``timm``, for the record.

    Returns:
        Lines that say what was read and written.

    Raises:
        CheckpointError: as :func:`convert_yolov5`.
    """
    _refuse_same(source, out)
    state = _safetensors(source) if source.suffix == ".safetensors" else state_of(read_checkpoint(source))
    state = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    stages = sorted({name.split(".")[0] for name in state if name.startswith("layer")})
    if "conv1.weight" not in state or stages != ["layer1", "layer2", "layer3", "layer4"]:
        raise CheckpointError(f"{source}: not a ResNet: it has no conv1.weight and layer1 to layer4")
    kept = {
        name: value.float() if value.is_floating_point() else value
        for name, value in state.items()
        if not name.startswith("fc.")
    }
    blocks = [len({name.split(".")[1] for name in kept if name.startswith(f"{stage}.")}) for stage in stages]
    what = f"{kind} ResNet with {'-'.join(map(str, blocks))} blocks"
    return [f"{source}: {what}; the classifier is left out", _write(out, kept, source, what)]


def _safetensors(source: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not source.is_file():
        raise CheckpointError(f"{source}: no such checkpoint")
    try:
        return load_file(source)
    except SafetensorError as error:
        raise CheckpointError(f"{source}: damaged checkpoint ({error})") from error


def _refuse_same(source: Path, out: Path) -> None:
    if out.exists() and source.exists() and out.samefile(source):
        raise CheckpointError(f"{out}: is the file to read; name another to write")


def _write(out: Path, state: dict[str, Tensor], source: Path, what: str) -> str:
    """Write a checkpoint whole or not at all."""
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    meta: dict[str, Any] = {"converted_from": source.name, "sha256": digest, "what": what}
    buffer = io.BytesIO()
    torch.save({"state_dict": state, "meta": meta}, buffer)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(out, buffer.getvalue())
    return f"{out}: {len(state)} tensors, {sum(value.numel() for value in state.values()):,} values"
