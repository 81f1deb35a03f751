"""The path aggregation neck of YOLOv5."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.necks import YOLOXPAFPN
from mmdet.registry import MODELS
from torch import nn

from .backbone import ACTIVATION, NORM, scaled_blocks, scaled_channels


@MODELS.register_module()
class YOLOv5PAFPN(YOLOXPAFPN):
    """Path aggregation (Liu et al., PANet, 2018) with C3 layers: YOLOX's neck without its output convolutions.

    Args:
        in_channels: channels of the backbone's stages at ``widen_factor`` 1, finest first. Outputs have the same.
        deepen_factor: as for the backbone.
        widen_factor: as for the backbone.
        num_csp_blocks: bottlenecks of each C3 at ``deepen_factor`` 1.
    """

    def __init__(
        self,
        in_channels: Sequence[int] = (256, 512, 1024),
        deepen_factor: float = 1.0,
        widen_factor: float = 1.0,
        num_csp_blocks: int = 3,
        norm_cfg: dict[str, Any] | None = None,
        act_cfg: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        channels = [scaled_channels(count, widen_factor) for count in in_channels]
        super().__init__(
            channels,
            channels[0],
            scaled_blocks(num_csp_blocks, deepen_factor),
            norm_cfg=norm_cfg or NORM,
            act_cfg=act_cfg or ACTIVATION,
            **kwargs,
        )
        self.out_convs = nn.ModuleList()
        self.to(memory_format=torch.channels_last)
