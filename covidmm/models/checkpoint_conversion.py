"""Convert other projects' checkpoints into ones that covidmm loads."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path

import torch
from mmdet.models.backbones import ResNet, ResNeXt
from mmdet.models.backbones.resnet import Bottleneck
from torch import Tensor

from covidmm.errors import CheckpointError, ConfigError
from covidmm.models.checkpoints import Coverage, coverage, read_checkpoint
from covidmm.models.file_kinds import require_checkpoint
from covidmm.models.foreign import RefusedError, read_foreign_checkpoint, read_trusted_checkpoint
from covidmm.models.state_dicts import state_of, weights_in
from covidmm.models.yolov5.published_weights import convert_state, without_head
from covidmm.utils.fileio import write_if_changed


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
        CheckpointError: ``source`` is damaged, malicious or another model; ``out`` is taken or cannot be written.
        ConfigError: ``num_classes`` is less than one.
    """
    if num_classes is not None and num_classes < 1:
        raise ConfigError(f"--num-classes {num_classes}: a detector has at least one class")
    _check_out(source, out)
    if source.is_file():
        require_checkpoint(source)
    published = read_foreign_checkpoint(source)
    try:
        converted = convert_state(published)
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error
    anchors = [[tuple(round(float(side)) for side in one) for one in level] for level in converted.anchors]
    lines = [
        f"{source}: {converted}",
        f"settings: {converted.settings}",
        f"anchors: base_sizes={anchors}",
        f"a matching model: {converted.filled}",
    ]
    state = converted.state
    if num_classes not in (None, converted.num_classes):
        state = without_head(converted)
        lines.append(f"head left out, for {num_classes} instead of {converted.num_classes} classes: it starts random")
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
    _check_out(source, out)
    content = read_checkpoint(source)
    try:
        state = {name: value for name, value in state_of(content).items() if isinstance(value, Tensor)}
        backbone = {name: _plain(value) for name, value in state.items() if not name.startswith("fc.")}
        name, filled = _matching_resnet(backbone)
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error
    what = f"{kind} {name}"
    return [
        f"{source}: {what}; the classifier is left out",
        f"a matching model: {filled}",
        _write(out, backbone, source, what),
    ]


def convert_plain(source: Path, out: Path, trusted: bool = False) -> list[str]:
    """Take the tensors out of any checkpoint, under the names that they have.

    Args:
        source: a file that torch wrote, with a state dict or a whole model in it.
        out: the file to write, which is read with weights only.
        trusted: unpickle the file, and so run what its author put into it, where the reader that runs nothing refuses.
            A warning says so first.

    Returns:
        Lines that say what was read and written.

    Raises:
        CheckpointError: as :func:`convert_yolov5`.
    """
    _check_out(source, out)
    if source.is_file() and not trusted:
        require_checkpoint(source)
    if trusted:
        state = read_trusted_checkpoint(source)
    else:
        try:
            state = _as_loaded(source) or read_foreign_checkpoint(source)
        except RefusedError as error:
            raise RefusedError(
                f"{error}; --trust-checkpoint unpickles it all the same, and so runs what its author put into it"
            ) from error
    return [f"{source}: {len(state)} tensors", _write(out, state, source, "plain, unpickled" if trusted else "plain")]


def _matching_resnet(state: Mapping[str, Tensor]) -> tuple[str, Coverage]:
    """The name of MMDetection's backbone with these shapes, and how much of it they fill.

    Raises:
        CheckpointError: not a ResNet, or a variant with other layers, whose features would be wrong.
    """
    stages = sorted({name.split(".")[0] for name in state if name.startswith("layer")})
    stem, inner = state.get("conv1.weight"), state.get("layer1.0.conv2.weight")
    if stages != ["layer1", "layer2", "layer3", "layer4"] or not all(
        value is not None and value.dim() == 4 for value in (stem, inner)
    ):
        raise CheckpointError("not a ResNet: it lacks the convolutions of conv1 and layer1 to layer4")
    blocks = tuple(len({name.split(".")[1] for name in state if name.startswith(f"{stage}.")}) for stage in stages)
    bottleneck = "layer1.0.conv3.weight" in state
    known = {(counts, block is Bottleneck): depth for depth, (block, counts) in ResNet.arch_settings.items()}
    depth = known.get((blocks, bottleneck))
    if depth is None:
        raise CheckpointError(f"not a ResNet of MMDetection: stages of {'-'.join(map(str, blocks))} blocks")
    width, group = inner.shape[:2]
    name, settings = f"ResNet-{depth}", {"depth": depth, "in_channels": stem.shape[1]}
    with torch.device("meta"):
        if bottleneck and group < width:
            name = f"ResNeXt-{depth} ({width // group}x{group}d)"
            model = ResNeXt(groups=width // group, base_width=group, **settings)
        else:
            model = ResNet(**settings)
    filled = coverage(model.state_dict(), state)
    lacking = any(not missing.endswith(".num_batches_tracked") for missing in filled.missing)
    if lacking or filled.mismatched or filled.unused:
        raise CheckpointError(f"not MMDetection's {name}: {filled}")
    return name, filled


def _as_loaded(source: Path) -> dict[str, Tensor] | None:
    """The tensors of a file that ``load_from`` takes, copied; None of any other, and of what would grow by the copy."""
    try:
        found = weights_in(read_checkpoint(source))
    except CheckpointError:
        return None
    state = {name: value for name, value in found.items() if isinstance(value, Tensor)}
    if sum(value.numel() * value.element_size() for value in state.values()) > source.stat().st_size:
        return None
    return {name: _plain(value).contiguous().clone() for name, value in state.items()}


def _plain(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value


def _check_out(source: Path, out: Path) -> None:
    """Refuse, before the work, a path that no file can be written to."""
    if out.exists() and not out.is_file():
        raise CheckpointError(f"{out}: is a {'folder' if out.is_dir() else 'device'}; name the file to write")
    if out.exists() and source.exists() and out.samefile(source):
        raise CheckpointError(f"{out}: is the file to read; name another to write")
    parent = next(folder for folder in out.parents if folder.exists())
    if not parent.is_dir():
        raise CheckpointError(f"{out}: cannot be written, {parent} is not a folder")


def _write(out: Path, state: dict[str, Tensor], source: Path, what: str) -> str:
    """Write a checkpoint whole or not at all. The same conversion may be repeated; another file is not replaced."""
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    buffer = io.BytesIO()
    torch.save({"state_dict": state, "meta": {"converted_from": source.name, "sha256": digest, "what": what}}, buffer)
    data = buffer.getvalue()
    if out.exists() and out.read_bytes() != data:
        raise CheckpointError(f"{out}: exists and holds something else; remove it or name another file")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_if_changed(out, data)
    except OSError as error:
        raise CheckpointError(f"{out}: cannot be written ({error.strerror})") from error
    return f"{out}: {len(state)} tensors, {sum(value.numel() for value in state.values()):,} values"
