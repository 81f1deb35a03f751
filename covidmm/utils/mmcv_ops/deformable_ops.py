"""Deformable convolutions and multi-scale deformable attention."""
# ruff: noqa: N803 - the arguments are called as MMCV calls them

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import deform_conv2d

from covidmm.utils.mmcv_ops.dtypes import wide


def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    *,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Deformable convolution (Dai et al., 2017, eq. 2).

    Args:
        input: (B, C, H, W).
        weight: (O, C / group, kH, kW).
        offset: (B, 2 * deformable_group * kH * kW, OH, OW), y before x.
        output: (B, O, OH, OW), filled in place.
        columns: not used, nor are ``ones`` and ``im2col_step``: torchvision has its own buffers.
        ones: see ``columns``.
        kW, kH, dW, dH, padW, padH, dilationW, dilationH: kernel, stride, padding and dilation along each side.
        group: groups of channels with weights of their own.
        deformable_group: groups of channels with offsets of their own.
        im2col_step: see ``columns``.
    """
    geometry = (dH, dW), (padH, padW), (dilationH, dilationW)
    _require_offsets(offset, deformable_group * kH * kW)
    output.copy_(_convolved(input, weight, offset, None, None, geometry))


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    *,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Gradients of :func:`deform_conv_forward` with respect to the input and the offsets, written in place."""
    geometry = (dH, dW), (padH, padW), (dilationH, dilationW)
    found = _gradients(grad_output, input, weight, offset, None, None, geometry, group, deformable_group)
    grad_input.copy_(found[0])
    grad_offset.copy_(found[2])


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    *,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    scale: float,
    im2col_step: int,
) -> None:
    """Gradient of :func:`deform_conv_forward` with respect to the weight times ``scale``, added to ``grad_weight``."""
    geometry = (dH, dW), (padH, padW), (dilationH, dilationW)
    # torchvision's kernel asks the weight for its shape alone here
    weight = grad_weight.to(input.dtype)
    found = _gradients(grad_output, input, weight, offset, None, None, geometry, group, deformable_group)
    grad_weight += (scale * found[1]).to(grad_weight.dtype)


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    *,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Modulated deformable convolution (Zhu et al., 2018, eq. 1).

    Args:
        input: (B, C, H, W).
        weight: (O, C / group, kernel_h, kernel_w).
        bias: (O,), or anything without ``with_bias``.
        ones: not used, nor are ``columns``: torchvision has its own buffers.
        offset: (B, 2 * deformable_group * kernel_h * kernel_w, OH, OW), y before x. One of a larger map, as DyHead
            gives it, is read from its beginning as if it were of this size, which is what MMCV's kernel does.
        mask: (B, deformable_group * kernel_h * kernel_w, OH, OW), what each sampled value is multiplied by; or of a
            larger map.
        output: (B, O, OH, OW), filled in place.
        columns: see ``ones``.
        kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w: along each side.
        group: groups of channels with weights of their own.
        deformable_group: groups of channels with offsets of their own.
        with_bias: whether ``bias`` is added.
    """
    geometry = (stride_h, stride_w), (pad_h, pad_w), (dilation_h, dilation_w)
    points = deformable_group * kernel_h * kernel_w
    _require_offsets(offset, points)
    offset, mask = _beginning(offset, 2 * points, output), _beginning(mask, points, output)
    output.copy_(_convolved(input, weight, offset, mask, bias if with_bias else None, geometry))


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    *,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Gradients of :func:`modulated_deform_conv_forward` with respect to all five inputs, written in place."""
    geometry = (stride_h, stride_w), (pad_h, pad_w), (dilation_h, dilation_w)
    bias_or_none = bias if with_bias else None
    points = deformable_group * kernel_h * kernel_w
    offset, mask = _beginning(offset, 2 * points, grad_output), _beginning(mask, points, grad_output)
    found = _gradients(grad_output, input, weight, offset, mask, bias_or_none, geometry, group, deformable_group)
    grad_input.copy_(found[0])
    grad_weight.copy_(found[1])
    for target, gradient in ((grad_offset, found[2]), (grad_mask, found[3])):
        rows = target.new_zeros(len(target), target[0].numel())
        rows[:, : gradient[0].numel()] = gradient.flatten(1)
        target.copy_(rows.view_as(target))
    if with_bias:
        grad_bias.copy_(found[4])


def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    *,
    im2col_step: int,
) -> Tensor:
    """Multi-scale deformable attention (Zhu et al., Deformable DETR, 2021, eq. 3), by grid sampling.

    Args:
        value: (B, keys, heads, channels), the maps of all levels one after the other.
        value_spatial_shapes: (levels, 2) int64, height and width of each.
        value_level_start_index: (levels,) int64, where each begins; follows from the shapes.
        sampling_locations: (B, queries, heads, levels, points, 2), x and y in 0..1.
        attention_weights: (B, queries, heads, levels, points).
        im2col_step: not used.

    Returns:
        (B, queries, heads * channels).
    """
    # mmcv.ops imports the module that this one serves
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    parts = (wide(value), value_spatial_shapes, wide(sampling_locations), wide(attention_weights))
    return multi_scale_deformable_attn_pytorch(*parts).to(value.dtype)


def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    *,
    im2col_step: int,
) -> None:
    """Gradients of :func:`ms_deform_attn_forward`, written in place."""
    leaves = [wide(one).detach().requires_grad_() for one in (value, sampling_locations, attention_weights)]
    with torch.enable_grad():
        output = ms_deform_attn_forward(
            leaves[0], value_spatial_shapes, value_level_start_index, leaves[1], leaves[2], im2col_step=im2col_step
        )
    found = torch.autograd.grad(output, leaves, wide(grad_output))
    for target, gradient in zip((grad_value, grad_sampling_loc, grad_attn_weight), found, strict=True):
        target.copy_(gradient)


_Geometry = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


def _require_offsets(offset: Tensor, points: int) -> None:
    """Torchvision takes any number of groups that the offsets have; MMCV's kernel takes those that it was told."""
    if offset.shape[1] != 2 * points:
        raise RuntimeError(
            f"offset has {offset.shape[1]} channels, expected {2 * points}: two for each of {points} points"
        )


def _beginning(values: Tensor, channels: int, output: Tensor) -> Tensor:
    """The first values of each image in ``values`` as (B, channels, OH, OW) of ``output``.

    Raises:
        RuntimeError: there are too few; MMCV's kernel would read past their end.
    """
    size = output.shape[-2:]
    if values.shape[-2:] == size:
        return values
    rows, needed = values.flatten(1), channels * size.numel()
    if rows.shape[1] < needed:
        raise RuntimeError(
            f"offsets or mask of {tuple(values.shape[-2:])}, expected those of the output: {tuple(size)}"
        )
    return rows[:, :needed].reshape(len(values), channels, *size)


def _convolved(
    input: Tensor, weight: Tensor, offset: Tensor, mask: Tensor | None, bias: Tensor | None, geometry: _Geometry
) -> Tensor:
    stride, padding, dilation = geometry
    return deform_conv2d(
        wide(input),
        wide(offset),
        wide(weight),
        bias=None if bias is None else wide(bias),
        stride=stride,
        padding=padding,
        dilation=dilation,
        mask=None if mask is None else wide(mask),
    )


def _gradients(
    grad_output: Tensor,
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    geometry: _Geometry,
    groups: int,
    offset_groups: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the input, weight, offset, mask and bias."""
    batch, features = len(input), wide(input)
    return torch.ops.torchvision._deform_conv2d_backward(
        wide(grad_output).contiguous(),
        features,
        wide(weight),
        wide(offset),
        features.new_zeros(batch, 1) if mask is None else wide(mask),
        features.new_zeros(len(weight)) if bias is None else wide(bias),
        *(side for pair in geometry for side in pair),
        groups,
        offset_groups,
        mask is not None,
    )
