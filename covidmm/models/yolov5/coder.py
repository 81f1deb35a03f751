"""How YOLOv5 writes a box into the outputs of a grid cell."""

from __future__ import annotations

import torch
from mmdet.models.task_modules.coders import BaseBBoxCoder
from mmdet.registry import TASK_UTILS
from torch import Tensor

#: How far, in cells, a predicted centre may lie from its cell's near edge: -0.5 to 1.5.
CENTRE_RANGE = (-0.5, 1.5)
#: How many times its anchor a predicted side can be.
LARGEST_RATIO = 4.0


@TASK_UTILS.register_module()
class YOLOv5BBoxCoder(BaseBBoxCoder):
    """Boxes from raw outputs t and back, per cell (gx, gy) of ``stride`` s and anchor (aw, ah) pixels.

    x = (2 sigmoid(tx) - 0.5 + gx) s, y likewise; w = (2 sigmoid(tw))^2 aw, h likewise. So centres reach
    half a cell into the neighbours and sides stay below four times the anchor, with bounded gradients.

    Priors are boxes whose centre is the middle of their cell, as MMDetection's ``YOLOAnchorGenerator`` makes.
    """

    encode_size = 4

    def decode(self, priors: Tensor, predictions: Tensor, stride: Tensor | float) -> Tensor:
        """Boxes (..., 4) as x1 y1 x2 y2 in pixels.

        Args:
            priors: (..., 4) x1 y1 x2 y2, broadcast against the predictions.
            predictions: (..., 4) raw outputs.
            stride: pixels per cell, a number or (..., 1).
        """
        lower, upper = priors.split(2, -1)
        squashed = predictions.sigmoid() * 2
        # the prior's centre is at gx + 0.5
        centres = (lower + upper) / 2 + (squashed[..., :2] - 1) * stride
        half = squashed[..., 2:].square() * (upper - lower) / 2
        return torch.cat((centres - half, centres + half), -1)

    def encode(self, priors: Tensor, boxes: Tensor, stride: Tensor | float, eps: float = 1e-6) -> Tensor:
        """The raw outputs (..., 4) that decode to ``boxes``, the nearest possible ones where none does."""
        lower, upper = priors.split(2, -1)
        box_lower, box_upper = boxes.split(2, -1)
        offset = (box_lower + box_upper - lower - upper) / 2 / stride
        ratio = (box_upper - box_lower) / (upper - lower)
        squashed = torch.cat(((offset + 1) / 2, ratio.clamp(min=0).sqrt() / 2), -1)
        return torch.logit(squashed, eps)
