"""CARAFE: features reassembled by kernels that depend on the content."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import pad

from covidmm.utils.mmcv_ops.dtypes import wide


def carafe_naive_forward(
    features: Tensor, masks: Tensor, output: Tensor, *, kernel_size: int, group_size: int, scale_factor: int
) -> None:
    """CARAFE (Wang et al., 2019, eq. 2).

    Args:
        features: (B, C, H, W).
        masks: (B, group_size * kernel_size ** 2, H * scale_factor, W * scale_factor), the kernel of each output pixel.
        output: (B, C, H * scale_factor, W * scale_factor), filled in place.
        kernel_size: side of a kernel in pixels of the features, odd.
        group_size: groups of channels with kernels of their own.
        scale_factor: output pixels on a side of a feature pixel.
    """
    total = 0
    taps = _by_tap(wide(masks), kernel_size, group_size, scale_factor)
    for moved, mask in zip(_moved(wide(features), kernel_size, group_size), taps, strict=True):
        total = total + moved[:, :, :, :, None, :, None] * mask[:, :, None]
    output.copy_(total.reshape(output.shape))


def carafe_naive_backward(
    grad_output: Tensor,
    features: Tensor,
    masks: Tensor,
    grad_input: Tensor,
    grad_masks: Tensor,
    *,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Gradients of :func:`carafe_naive_forward` with respect to features and masks, written in place."""
    batch, channels, height, width = features.shape
    reach = kernel_size // 2
    grouped = batch, group_size, channels // group_size
    gradient = wide(grad_output).reshape(*grouped, height, scale_factor, width, scale_factor)
    padded = wide(features).new_zeros(*grouped, height + 2 * reach, width + 2 * reach)
    on_masks = []
    taps = _by_tap(wide(masks), kernel_size, group_size, scale_factor)
    for tap, (moved, mask) in enumerate(zip(_moved(wide(features), kernel_size, group_size), taps, strict=True)):
        down, over = divmod(tap, kernel_size)
        on_feature = (gradient * mask[:, :, None]).sum((4, 6))
        padded[..., down : down + height, over : over + width] += on_feature
        on_masks.append((gradient * moved[:, :, :, :, None, :, None]).sum(2))
    inner = padded[..., reach : reach + height, reach : reach + width]
    grad_input.copy_(inner.reshape(features.shape))
    grad_masks.copy_(torch.stack(on_masks, 2).reshape(masks.shape))


def carafe_forward(
    features: Tensor,
    masks: Tensor,
    rfeatures: Tensor,
    routput: Tensor,
    rmasks: Tensor,
    output: Tensor,
    *,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """The same as :func:`carafe_naive_forward`; ``rfeatures`` keeps the features for the backward pass.

    MMCV's kernel keeps them in another memory layout, for which ``routput`` and ``rmasks`` are its buffers.
    """
    rfeatures.copy_(features)
    carafe_naive_forward(
        features, masks, output, kernel_size=kernel_size, group_size=group_size, scale_factor=scale_factor
    )


def carafe_backward(
    grad_output: Tensor,
    rfeatures: Tensor,
    masks: Tensor,
    rgrad_output: Tensor,
    rgrad_input_hs: Tensor,
    rgrad_input: Tensor,
    rgrad_masks: Tensor,
    grad_input: Tensor,
    grad_masks: Tensor,
    *,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Gradients of :func:`carafe_forward`, written into ``grad_input`` and ``grad_masks``."""
    carafe_naive_backward(
        grad_output,
        rfeatures,
        masks,
        grad_input,
        grad_masks,
        kernel_size=kernel_size,
        group_size=group_size,
        scale_factor=scale_factor,
    )


def _moved(features: Tensor, kernel_size: int, groups: int) -> Iterator[Tensor]:
    """The features under each tap of a kernel in turn, (B, groups, C / groups, H, W); 0 outside the map."""
    batch, channels, height, width = features.shape
    reach = kernel_size // 2
    padded = pad(features, (reach,) * 4).reshape(batch, groups, channels // groups, height + 2 * reach, -1)
    for tap in range(kernel_size**2):
        down, over = divmod(tap, kernel_size)
        yield padded[..., down : down + height, over : over + width]


def _by_tap(masks: Tensor, kernel_size: int, groups: int, scale: int) -> Iterator[Tensor]:
    """The masks of each tap in turn, (B, groups, H, scale, W, scale)."""
    batch, _, height, width = masks.shape
    taps = masks.reshape(batch, groups, kernel_size**2, height // scale, scale, width // scale, scale)
    return iter(taps.unbind(2))
