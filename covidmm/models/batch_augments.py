"""Augmentations of a whole batch on its device."""

from __future__ import annotations

from typing import Any

from mmdet.models.data_preprocessors import BatchSyncRandomResize
from mmdet.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class BatchRandomResize(BatchSyncRandomResize):
    """Multi-scale training: resizes each batch, images and boxes, to a size drawn for it.

    MMDetection's ``BatchSyncRandomResize`` draws the size after a batch and keeps it for later ones, in memory
    alone, so that a resumed run differs from an undisturbed one.

    Args:
        random_size_range: smallest and largest longer side, in pixels.
        size_divisor: sizes are multiples of it.
    """

    def __init__(self, random_size_range: tuple[int, int], size_divisor: int = 32) -> None:
        super().__init__(random_size_range, interval=1, size_divisor=size_divisor)

    def forward(self, inputs: Tensor, data_samples: list[Any]) -> tuple[Tensor, list[Any]]:
        """Resize one batch (B, 3, H, W) and the boxes of its samples."""
        height, width = inputs.shape[-2:]
        self._input_size = self._get_random_size(width / height, inputs.device)
        return super().forward(inputs, data_samples)
