"""Bilinear sampling at any points of feature maps, as RoI pooling defines it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Corners(NamedTuple):
    """Where points lie between pixels.

    ``indices`` are four int64 tensors, flat positions in an (H, W) map: top left, top right, bottom left, bottom right.
    ``weights`` are what each counts for; all are 0 for a point that lies over one pixel outside.
    """

    indices: tuple[Tensor, Tensor, Tensor, Tensor]
    weights: tuple[Tensor, Tensor, Tensor, Tensor]


def corners(y: Tensor, x: Tensor, size: tuple[int, int]) -> Corners:
    """The four pixels around each point, after He et al. (Mask R-CNN, 2017), section 3.

    A point up to one pixel outside counts as if it lay on the edge; farther out there is nothing.

    Args:
        y: rows, of any shape; pixel 0 has its middle at 0.
        x: columns, of the same shape.
        size: height and width of the map.
    """
    height, width = size
    inside = (y >= -1) & (y <= height) & (x >= -1) & (x <= width)
    y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
    top, left = y.detach().floor().long(), x.detach().floor().long()
    bottom, right = (top + 1).clamp(max=height - 1), (left + 1).clamp(max=width - 1)
    down, over = y - top, x - left
    up, back = 1 - down, 1 - over
    weights = tuple(torch.where(inside, one, 0) for one in (up * back, up * over, down * back, down * over))
    indices = (top * width + left, top * width + right, bottom * width + left, bottom * width + right)
    return Corners(indices, weights)
