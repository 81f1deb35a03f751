"""Pooling of regions of interest."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision import ops

from covidmm.utils.mmcv_ops.refusals import not_served


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """RoIAlign (He et al., 2017), average pooling only.

    Args:
        input: (B, C, H, W) features.
        rois: (R, 5) batch index, x1, y1, x2, y2 in input-image pixels.
        output: (R, C, aligned_height, aligned_width), filled in place.
    """
    _average_only(pool_mode)
    pooled = ops.roi_align(
        input.float(),
        rois.float(),
        (aligned_height, aligned_width),
        spatial_scale=spatial_scale,
        sampling_ratio=sampling_ratio,
        aligned=aligned,
    )
    output.copy_(pooled)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Gradient of :func:`roi_align_forward` with respect to the features, written into ``grad_input``."""
    _average_only(pool_mode)
    gradient = torch.ops.torchvision._roi_align_backward(
        grad_output.float().contiguous(),
        rois.float(),
        spatial_scale,
        aligned_height,
        aligned_width,
        *grad_input.shape,
        sampling_ratio,
        aligned,
    )
    grad_input.copy_(gradient)


def _average_only(pool_mode: int) -> None:
    if pool_mode != 1:
        raise NotImplementedError(not_served("roi_align with pool_mode='max'"))
