"""Published YOLOv5 weights under the names of covidmm's parts.

A published model numbers its layers: ``model.<layer>.<part>``. The tables below are read off the state dicts of
v5.0 (Focus stem) and v6.0 to v7.0 (6x6 stem).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from covidmm.errors import CheckpointError
from covidmm.models.checkpoints import Coverage, coverage

from .backbone import BLOCKS, CHANNELS, YOLOv5CSPDarknet, scaled_blocks, scaled_channels
from .neck import YOLOv5PAFPN

#: deepen_factor and widen_factor of the published sizes.
SIZES = {"n": (0.33, 0.25), "s": (0.33, 0.5), "m": (0.67, 0.75), "l": (1.0, 1.0), "x": (1.33, 1.25)}
#: Layer numbers of the neck and the head; those of the backbone follow from its stages.
NECKS = {
    "P5": {
        "reduce_layers": (10, 14),
        "top_down_blocks": (13, 17),
        "downsamples": (18, 21),
        "bottom_up_blocks": (20, 23),
    },
    "P6": {
        "reduce_layers": (12, 16, 20),
        "top_down_blocks": (15, 19, 23),
        "downsamples": (24, 27, 30),
        "bottom_up_blocks": (26, 29, 32),
    },
}
HEADS = {"P5": 24, "P6": 33}
#: Parts of a C3 (1x1 convolutions and bottlenecks) and of a pooling layer, published name to ours.
C3_PARTS = {"cv1": "main_conv", "cv2": "short_conv", "cv3": "final_conv", "m": "blocks"}
POOL_PARTS = {"cv1": "conv1", "cv2": "conv2"}


@dataclass(frozen=True)
class Converted:
    """Weights of a published model.

    ``state`` has covidmm's names. ``anchors`` are (levels, 3, 2) widths and heights in pixels. ``filled`` is how
    much of covidmm's model of that size it fills.
    """

    size: str
    arch: str
    release: str
    num_classes: int
    anchors: Tensor
    state: dict[str, Tensor]
    filled: Coverage

    def __str__(self) -> str:
        six = "6" if self.arch == "P6" else ""
        stem = "Focus stem, v5.0" if self.release == "v5" else "6x6 stem, v6.0 or later"
        return f"YOLOv5-{self.size}{six} ({stem}), {self.num_classes} classes"

    @property
    def settings(self) -> str:
        """What the backbone and the neck of a config have to say to be this model."""
        deepen, widen = SIZES[self.size]
        return f"arch='{self.arch}', release='{self.release}', deepen_factor={deepen}, widen_factor={widen}"


def convert_state(published: Mapping[str, Tensor]) -> Converted:
    """Rename, and turn a Focus stem into the 6x6 convolution that it equals.

    Args:
        published: state dict of a published model.

    Raises:
        CheckpointError: not a YOLOv5 detector of a published size, whole and unfused.
    """
    arch = next((arch for arch, head in HEADS.items() if f"model.{head}.m.0.weight" in published), None)
    if arch is None:
        raise CheckpointError("not a YOLOv5 detector: no detection head at layer 24 (P5) or 33 (P6)")
    release = "v5" if "model.0.conv.conv.weight" in published else "v6"
    layers = _layers(arch, release)
    state, unknown = {}, []
    for name, value in published.items():
        ours = _rename(name, layers, HEADS[arch])
        if ours is None:
            unknown.append(name)
        elif ours:
            state[ours] = value
    if unknown:
        raise CheckpointError(f"not a YOLOv5 {arch} detector: unknown layer {unknown[0]} and {len(unknown) - 1} more")
    if release == "v5":
        state["backbone.stem.conv.weight"] = focus_as_convolution(state["backbone.stem.conv.weight"])
    size, num_classes, anchors = _size_of(state, arch, release), _classes_of(state), _anchors_of(published, arch)
    filled = coverage(matching_state(size, arch, release, num_classes), state)
    # batch norms of old and of plain state dicts do not count their batches
    lacking = [name for name in filled.missing if not name.endswith(".num_batches_tracked")]
    if lacking or filled.mismatched or filled.unused:
        raise CheckpointError(f"not a published YOLOv5-{size} {arch}: {replace(filled, missing=tuple(lacking))}")
    return Converted(size, arch, release, num_classes, anchors, state, filled)


def matching_state(size: str, arch: str, release: str, num_classes: int) -> dict[str, Tensor]:
    """Names and shapes, without values, of covidmm's model of a published size."""
    deepen, widen = SIZES[size]
    channels = CHANNELS[arch][2:]
    outputs = 3 * (5 + num_classes)
    with torch.device("meta"):
        head = nn.ModuleList(nn.Conv2d(scaled_channels(count, widen), outputs, 1) for count in channels)
        parts = {
            "backbone": YOLOv5CSPDarknet(arch, release, deepen, widen),
            "neck": YOLOv5PAFPN(channels, deepen, widen),
            "bbox_head": nn.ModuleDict({"convs_pred": head}),
        }
    return nn.ModuleDict(parts).state_dict()


def without_head(converted: Converted) -> dict[str, Tensor]:
    """The weights without the convolutions that depend on the number of classes."""
    return {name: value for name, value in converted.state.items() if not name.startswith("bbox_head.")}


def focus_as_convolution(weight: Tensor) -> Tensor:
    """(O, 12, 3, 3) behind a Focus slicing to the (O, 3, 6, 6) convolution of stride 2 and padding 2 it equals.

    Focus stacks the pixels of even rows and columns, odd rows, odd columns, and odd both, as channels.

    Raises:
        CheckpointError: another shape.
    """
    if weight.shape[1:] != (12, 3, 3):
        raise CheckpointError(f"a Focus stem of shape {tuple(weight.shape)}, expected (channels, 12, 3, 3)")
    full = weight.new_zeros(len(weight), 3, 6, 6)
    for part, (row, column) in enumerate(((0, 0), (1, 0), (0, 1), (1, 1))):
        full[:, :, row::2, column::2] = weight[:, 3 * part : 3 * part + 3]
    return full


def _layers(arch: str, release: str) -> dict[int, tuple[str, dict[str, str]]]:
    """Our prefix and the names of the parts of every numbered layer."""
    stages = len(CHANNELS[arch]) - 1
    layers: dict[int, tuple[str, dict[str, str]]] = {0: ("backbone.stem", {})}
    for stage in range(1, stages + 1):
        layers[2 * stage - 1] = (f"backbone.stage{stage}.0", {})
        layers[2 * stage] = (f"backbone.stage{stage}.1", C3_PARTS)
    last = f"backbone.stage{stages}"
    pooling, c3 = (2 * stages, 2 * stages + 1) if release == "v5" else (2 * stages + 1, 2 * stages)
    layers[pooling] = (f"{last}.{1 if release == 'v5' else 2}", POOL_PARTS)
    layers[c3] = (f"{last}.{2 if release == 'v5' else 1}", C3_PARTS)
    for part, numbers in NECKS[arch].items():
        for index, number in enumerate(numbers):
            layers[number] = (f"neck.{part}.{index}", C3_PARTS if part.endswith("blocks") else {})
    return layers


def _rename(name: str, layers: dict[int, tuple[str, dict[str, str]]], head: int) -> str | None:
    """Our name, an empty one for what has no place in a state dict of ours, or None for an unknown layer."""
    found = re.fullmatch(r"model\.(\d+)\.(.+)", name)
    if not found:
        return None
    number, rest = int(found[1]), found[2]
    if number == head:
        if rest in ("anchors", "anchor_grid", "stride"):
            return ""
        return f"bbox_head.convs_pred.{rest[2:]}" if re.fullmatch(r"m\.\d\.(weight|bias)", rest) else None
    if number not in layers:
        return None
    prefix, parts = layers[number]
    if number == 0:
        rest = rest.removeprefix("conv.") if rest.startswith("conv.conv.") or rest.startswith("conv.bn.") else rest
    if parts:
        first, _, rest = rest.partition(".")
        if first not in parts:
            return None
        prefix = f"{prefix}.{parts[first]}"
        rest = re.sub(r"^(\d+)\.cv([12])\.", r"\1.conv\2.", rest)
    return f"{prefix}.{rest}"


def _classes_of(state: Mapping[str, Tensor]) -> int:
    outputs = state["bbox_head.convs_pred.0.weight"].shape[:1].numel()
    if outputs % 3 or outputs <= 15:
        raise CheckpointError(
            f"not a YOLOv5 detector: a head of {outputs} outputs, expected three anchors with a box (4), an objectness "
            "and one or more classes each"
        )
    return outputs // 3 - 5


def _anchors_of(published: Mapping[str, Tensor], arch: str) -> Tensor:
    """The anchors in pixels; published models have them in units of each level's stride."""
    strides = torch.tensor([8.0, 16.0, 32.0, 64.0][: 3 if arch == "P5" else 4])
    name = f"model.{HEADS[arch]}.anchors"
    if name not in published:
        raise CheckpointError(f"not a YOLOv5 detector: no {name}")
    if published[name].shape != (len(strides), 3, 2):
        raise CheckpointError(
            f"not a YOLOv5 detector: {name} of shape {tuple(published[name].shape)}, expected {(len(strides), 3, 2)}"
        )
    return published[name] * strides[:, None, None]


def _size_of(state: Mapping[str, Tensor], arch: str, release: str) -> str:
    """The published size whose widths and depths these weights have."""
    stem = state.get("backbone.stem.conv.weight")
    if stem is None or stem.dim() != 4:
        raise CheckpointError("not a YOLOv5 detector: no convolution at layer 0")
    width = len(stem)
    depth = len({name.split(".")[4] for name in state if name.startswith("backbone.stage3.1.blocks.")})
    for size, (deepen, widen) in SIZES.items():
        same_width = scaled_channels(CHANNELS[arch][0], widen) == width
        if same_width and scaled_blocks(BLOCKS[arch, release][2], deepen) == depth:
            return size
    raise CheckpointError(f"no published YOLOv5 has a stem of {width} channels and {depth} bottlenecks in stage 3")
