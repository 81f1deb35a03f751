"""CSPDarknet with C3 stages and fast spatial pyramid pooling: the backbone of YOLOv5."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn import ConvModule
from mmdet.models.layers import CSPLayer
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

NORM = {"type": "BN", "momentum": 0.03, "eps": 0.001}
ACTIVATION = {"type": "SiLU", "inplace": True}

#: Output channels of the stem and of each stage at ``widen_factor`` 1.
CHANNELS = {"P5": (64, 128, 256, 512, 1024), "P6": (64, 128, 256, 512, 768, 1024)}
#: Bottlenecks of each C3 at ``deepen_factor`` 1. Version 6.0 made the second stage shorter.
BLOCKS = {
    ("P5", "v6"): (3, 6, 9, 3),
    ("P6", "v6"): (3, 6, 9, 3, 3),
    ("P5", "v5"): (3, 9, 9, 3),
    ("P6", "v5"): (3, 9, 9, 3, 3),
}
#: Smallest pooling window; version 5.0 pooled 5/9/13 (P5) and 3/5/7 (P6), later versions always 5/9/13.
POOL_SIZE = {("P5", "v6"): 5, ("P6", "v6"): 5, ("P5", "v5"): 5, ("P6", "v5"): 3}


def scaled_channels(channels: int, widen_factor: float) -> int:
    """``channels * widen_factor``, rounded up to a multiple of 8."""
    return math.ceil(channels * widen_factor / 8) * 8


def scaled_blocks(blocks: int, deepen_factor: float) -> int:
    """``blocks * deepen_factor``, rounded, at least 1."""
    return max(round(blocks * deepen_factor), 1)


class FastSpatialPyramidPooling(BaseModule):
    """SPPF: three max-poolings in a row, their results side by side.

    Pooling k twice is pooling 2k-1 once, so this equals the SPP of windows k, 2k-1 and 3k-2 (He et al., 2014)
    at a fraction of its cost.

    Args:
        channels: input and output channels.
        kernel_size: window of each pooling, odd.
    """

    def __init__(self, channels: int, kernel_size: int, norm_cfg: dict, act_cfg: dict) -> None:
        super().__init__()
        hidden = channels // 2
        self.conv1 = ConvModule(channels, hidden, 1, norm_cfg=norm_cfg, act_cfg=act_cfg)
        self.pool = nn.MaxPool2d(kernel_size, stride=1, padding=kernel_size // 2)
        self.conv2 = ConvModule(hidden * 4, channels, 1, norm_cfg=norm_cfg, act_cfg=act_cfg)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        pooled = [self.conv1(x)]
        for _ in range(3):
            pooled.append(self.pool(pooled[-1]))
        return self.conv2(torch.cat(pooled, 1))


@MODELS.register_module()
class YOLOv5CSPDarknet(BaseModule):
    """Backbone of YOLOv5: a 6x6 stem and four (P5) or five (P6) stages of stride 2.

    Each stage is a 3x3 convolution of stride 2 and a C3, a cross-stage partial layer with three convolutions
    (Wang et al., CSPNet, 2020). The last stage ends with SPPF.

    Args:
        arch: ``P5`` or ``P6``, the coarsest level.
        release: ``v6`` (v6.0 to v7.0), or ``v5`` for weights published with v5.0, whose second stage has nine
            bottlenecks and whose last stage pools before a C3 without identities.
        deepen_factor: scales the number of bottlenecks: n, s .33, m .67, l 1, x 1.33.
        widen_factor: scales the channels: n .25, s .5, m .75, l 1, x 1.25.
        out_indices: stages to return, 0 being the stem.
        frozen_stages: the stem and this many stages are not trained; -1 for none.
        norm_eval: keep batch-norm statistics fixed.

    Raises:
        ValueError: no such architecture or release, or a stage out of range.
    """

    def __init__(
        self,
        arch: str = "P5",
        release: str = "v6",
        deepen_factor: float = 1.0,
        widen_factor: float = 1.0,
        out_indices: Sequence[int] = (2, 3, 4),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        norm_cfg: dict[str, Any] | None = None,
        act_cfg: dict[str, Any] | None = None,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg)
        if (arch, release) not in BLOCKS:
            known = ", ".join(f"{a}/{r}" for a, r in BLOCKS)
            raise ValueError(f"no YOLOv5 backbone {arch}/{release}; there are {known}")
        blocks = [scaled_blocks(count, deepen_factor) for count in BLOCKS[arch, release]]
        channels = [scaled_channels(count, widen_factor) for count in CHANNELS[arch]]
        if not all(0 <= index <= len(blocks) for index in out_indices) or not -1 <= frozen_stages <= len(blocks):
            raise ValueError(f"out_indices and frozen_stages are stages 0 to {len(blocks)} of a {arch} backbone")
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        cfg = {"norm_cfg": norm_cfg or NORM, "act_cfg": act_cfg or ACTIVATION}
        self.stem = ConvModule(3, channels[0], 6, stride=2, padding=2, **cfg)
        self.layers = ["stem"]
        for index, count in enumerate(blocks, 1):
            last = index == len(blocks)
            width = channels[index]
            parts = [ConvModule(channels[index - 1], width, 3, stride=2, padding=1, **cfg)]
            identity = not (last and release == "v5")
            parts.append(CSPLayer(width, width, num_blocks=count, add_identity=identity, **cfg))
            if last:
                pooling = FastSpatialPyramidPooling(width, POOL_SIZE[arch, release], **cfg)
                parts.insert(1 if release == "v5" else 2, pooling)
            self.layers.append(f"stage{index}")
            self.add_module(self.layers[-1], nn.Sequential(*parts))
        # channels last, here and in the neck: a tenth faster on CPUs, and what tensor cores want
        self.to(memory_format=torch.channels_last)
        self._freeze()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) to the chosen stages, each of stride 2 to the power of its index + 1."""
        outs = []
        x = x.contiguous(memory_format=torch.channels_last)
        for index, name in enumerate(self.layers):
            x = getattr(self, name)(x)
            if index in self.out_indices:
                outs.append(x)
        return tuple(outs)

    def train(self, mode: bool = True) -> YOLOv5CSPDarknet:
        """Set the mode; frozen stages stay as they are, their statistics too."""
        super().train(mode)
        self._freeze()
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _freeze(self) -> None:
        for name in self.layers[: self.frozen_stages + 1]:
            layer = getattr(self, name)
            layer.eval()
            for parameter in layer.parameters():
                parameter.requires_grad = False
