"""Pooling of regions of interest: RoIAlign, RoIPool and deformable RoI pooling."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision import ops

from covidmm.utils.mmcv_ops.bilinear import corners
from covidmm.utils.mmcv_ops.dtypes import wide

#: Sampled values that are held at a time: 64 MB in float32.
_HELD = 1 << 24


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
    """RoIAlign (He et al., 2017).

    Args:
        input: (B, C, H, W) features.
        rois: (R, 5) batch index, x1, y1, x2, y2 in input-image pixels.
        output: (R, C, aligned_height, aligned_width), filled in place.
        argmax_y: of the shape of ``output``, filled in place with the row that won; empty for average pooling.
        argmax_x: the same for columns.
        aligned_height: rows of bins.
        aligned_width: columns of bins.
        spatial_scale: pixels of the features in one pixel of the image.
        sampling_ratio: points in a bin along one side; 0 for as many as it has pixels.
        pool_mode: 0 for the maximum of the sampled points, 1 for their mean.
        aligned: whether the middle of a pixel is at half of one.
    """
    if pool_mode == 1:
        pooled = ops.roi_align(
            wide(input),
            rois.to(wide(input).dtype),
            (aligned_height, aligned_width),
            spatial_scale=spatial_scale,
            sampling_ratio=sampling_ratio,
            aligned=aligned,
        )
        output.copy_(pooled)
        return
    bins = aligned_height, aligned_width
    for part in _parts(input, rois, bins, spatial_scale, sampling_ratio, 0.5 if aligned else 0, 0 if aligned else 1):
        values = part.values(input).flatten(-2)
        if not values.shape[-1]:  # a region without an extent has no points: this is what MMCV's kernel begins with
            output[part.rows] = -10000
            argmax_y[part.rows] = argmax_x[part.rows] = -1
            continue
        best, where = values.max(-1)
        output[part.rows] = best.to(output.dtype)
        for argmax, points in ((argmax_y, part.y), (argmax_x, part.x)):
            flat = points.flatten(-2)[:, None].expand(values.shape)
            argmax[part.rows] = flat.gather(-1, where[..., None])[..., 0].to(argmax.dtype)


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
    if pool_mode == 1:
        gradient = torch.ops.torchvision._roi_align_backward(
            wide(grad_output).contiguous(),
            rois.to(wide(grad_output).dtype),
            spatial_scale,
            aligned_height,
            aligned_width,
            *grad_input.shape,
            sampling_ratio,
            aligned,
        )
        grad_input.copy_(gradient)
        return
    found = corners(argmax_y.to(wide(grad_output).dtype), argmax_x.to(wide(grad_output).dtype), grad_input.shape[2:])
    sampled = (argmax_y != -1).to(wide(grad_output).dtype)
    for index, weight in zip(*found, strict=True):
        _scatter(grad_input, rois, index, wide(grad_output) * weight * sampled)


def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    *,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """RoI max pooling (Girshick, Fast R-CNN, 2015), with the borders of MMCV: no rounding of a region to whole pixels.

    Args:
        input: (B, C, H, W) features.
        rois: (R, 5) batch index, x1, y1, x2, y2 in input-image pixels, x2 and y2 included.
        output: (R, C, pooled_height, pooled_width), filled in place; 0 where a bin is empty.
        argmax: int32, of the same shape, filled in place: the flat position in (H, W), -1 where a bin is empty.
        pooled_height: rows of bins.
        pooled_width: columns of bins.
        spatial_scale: pixels of the features in one pixel of the image.
    """
    (top, bottom), (left, right) = (
        _bin_edges(rois[:, 1 + axis], rois[:, 3 + axis], bins, input.shape[3 - axis], spatial_scale)
        for axis, bins in ((1, pooled_height), (0, pooled_width))
    )
    if not len(rois):
        return
    batch, width = rois[:, 0].long(), input.shape[3]
    for rows in torch.arange(len(rois), device=input.device).split(max(1, _HELD // output[0].numel())):
        shape = (len(rows), *output.shape[1:])
        best = torch.full(shape, torch.finfo(input.dtype).min, dtype=input.dtype, device=input.device)
        place = torch.full(shape, -1, dtype=torch.int64, device=input.device)
        for down in range(int((bottom - top)[rows].max())):
            for over in range(int((right - left)[rows].max())):
                y, x = (top[rows] + down)[:, :, None], (left[rows] + over)[:, None]
                inside = (y < bottom[rows][:, :, None]) & (x < right[rows][:, None])
                index = torch.where(inside, y * width + x, 0)
                values = _at(input, batch[rows], index)
                larger = inside[:, None] & (values > best)
                best, place = torch.where(larger, values, best), torch.where(larger, index[:, None], place)
        output[rows] = torch.where(place >= 0, best, 0)
        argmax[rows] = place.to(argmax.dtype)


def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    *,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Gradient of :func:`roi_pool_forward` with respect to the features, added to ``grad_input``."""
    _scatter(grad_input, rois, argmax.clamp(min=0).long(), torch.where(argmax >= 0, grad_output, 0))


def deform_roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    offset: Tensor,
    output: Tensor,
    *,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> None:
    """Deformable RoI pooling (Dai et al., 2017, section 2.2): each bin is moved by an offset of its own.

    Args:
        input: (B, C, H, W) features.
        rois: (R, 5) batch index, x1, y1, x2, y2 in input-image pixels.
        offset: (R, 2, pooled_height, pooled_width), x then y in shares of the region over ``gamma``; or empty.
        output: (R, C, pooled_height, pooled_width), filled in place.
        pooled_height: rows of bins.
        pooled_width: columns of bins.
        spatial_scale: pixels of the features in one pixel of the image.
        sampling_ratio: points in a bin along one side; 0 for as many as it has pixels.
        gamma: factor of the offsets.
    """
    bins = pooled_height, pooled_width
    for part in _parts(input, rois, bins, spatial_scale, sampling_ratio, 0.5, 0, offset, gamma):
        output[part.rows] = part.mean(input).to(output.dtype)


def deform_roi_pool_backward(
    grad_output: Tensor,
    input: Tensor,
    rois: Tensor,
    offset: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    *,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> None:
    """Gradients of :func:`deform_roi_pool_forward`, added in place; an empty ``grad_offset`` stays."""
    bins = pooled_height, pooled_width
    features, moves = wide(input).detach().requires_grad_(), wide(offset).detach().requires_grad_()
    with torch.enable_grad():
        for part in _parts(features, rois, bins, spatial_scale, sampling_ratio, 0.5, 0, moves, gamma):
            pooled = part.mean(features)
            found = torch.autograd.grad(pooled, (features, moves), wide(grad_output)[part.rows], allow_unused=True)
            for target, gradient in zip((grad_input, grad_offset), found, strict=True):
                if gradient is not None:
                    target.add_(gradient.to(target.dtype))


class _Part(NamedTuple):
    """Regions that have equally many points in each bin, and these points (regions, PH, PW, GH, GW)."""

    rows: Tensor
    batch: Tensor
    y: Tensor
    x: Tensor

    def values(self, input: Tensor) -> Tensor:
        """The features at all points, (regions, C, PH, PW, GH, GW)."""
        found = corners(self.y, self.x, input.shape[2:])
        values = 0
        for index, weight in zip(*found, strict=True):
            values = values + _at(wide(input), self.batch, index) * weight[:, None]
        return values

    def mean(self, input: Tensor) -> Tensor:
        """Their mean in each bin, (regions, C, PH, PW); 0 where a bin has none."""
        return self.values(input).sum((-2, -1)) / max(self.y.shape[-2] * self.y.shape[-1], 1)


def _parts(
    input: Tensor,
    rois: Tensor,
    bins: tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int,
    shift: float,
    least: float,
    offset: Tensor | None = None,
    gamma: float = 0.0,
) -> Iterator[_Part]:
    """The points of all regions, in parts that can be held in memory.

    Args:
        input: (B, C, H, W) features.
        rois: (R, 5).
        bins: rows and columns of bins.
        spatial_scale: pixels of the features in one pixel of the image.
        sampling_ratio: points in a bin along one side; 0 for as many as it has pixels.
        shift: taken from all coordinates, in pixels of the features.
        least: what a side of a region is at least, in pixels of the features.
        offset: (R, 2, *bins), or empty.
        gamma: factor of the offsets.
    """
    scaled = rois[:, 1:].to(wide(input).dtype) * spatial_scale - shift
    start = scaled[:, :2]
    extent = scaled[:, 2:] - start
    extent = extent.clamp(min=least) if least else extent
    size = extent / extent.new_tensor([bins[1], bins[0]])
    counts = size.ceil().clamp(min=0).long() if sampling_ratio <= 0 else torch.full_like(size, sampling_ratio).long()
    batch = rois[:, 0].long()
    for over, down in torch.unique(counts, dim=0).tolist():
        same = ((counts[:, 0] == over) & (counts[:, 1] == down)).nonzero()[:, 0]
        held = max(input.shape[1] * bins[0] * bins[1] * down * over, 1)
        for rows in same.split(max(1, _HELD // held)):
            axes = []
            for axis, points in ((1, down), (0, over)):
                share = (torch.arange(points, device=input.device, dtype=size.dtype) + 0.5) / max(points, 1)
                grid = torch.arange(bins[1 - axis], device=input.device, dtype=size.dtype)[:, None] + share
                axes.append(start[rows, axis, None, None] + grid * size[rows, axis, None, None])
            y, x = axes[0][:, :, None, :, None], axes[1][:, None, :, None, :]
            if offset is not None and offset.numel():
                moved = gamma * extent[rows, :, None, None] * offset[rows].to(size.dtype)
                y, x = y + moved[:, 1, :, :, None, None], x + moved[:, 0, :, :, None, None]
            yield _Part(rows, batch[rows], *torch.broadcast_tensors(y, x))


def _bin_edges(first: Tensor, last: Tensor, bins: int, size: int, spatial_scale: float) -> tuple[Tensor, Tensor]:
    """Where each bin of a region begins and ends along one side, (R, bins) whole pixels, the end excluded."""
    start, end = wide(first) * spatial_scale, (wide(last) + 1) * spatial_scale
    steps = torch.arange(bins + 1, device=first.device)
    edges = start[:, None] + steps * ((end - start) / bins)[:, None]
    begins, ends = edges[:, :-1].floor().clamp(0, size).long(), edges[:, 1:].ceil().clamp(0, size).long()
    return begins, torch.where((end > start)[:, None], ends, begins)


def _at(input: Tensor, batch: Tensor, index: Tensor) -> Tensor:
    """The features at flat positions ``index`` (R, ...) of the maps of images ``batch`` (R,), as (R, C, ...)."""
    maps = input.transpose(0, 1).flatten(1)
    places = batch.view(-1, *[1] * (index.dim() - 1)) * (input.shape[2] * input.shape[3]) + index
    return maps[:, places.flatten()].view(len(maps), *index.shape).transpose(0, 1)


def _scatter(grad_input: Tensor, rois: Tensor, index: Tensor, values: Tensor) -> None:
    """Add ``values`` (R, C, PH, PW) at flat positions ``index`` of the maps that their regions lie in."""
    channels, area = grad_input.shape[1], grad_input.shape[2] * grad_input.shape[3]
    maps = rois[:, 0].long()[:, None] * channels + torch.arange(channels, device=index.device)
    places = maps[:, :, None, None] * area + index
    total = wide(grad_input).flatten().index_add(0, places.flatten(), wide(values).flatten().to(wide(grad_input).dtype))
    grad_input.copy_(total.view(grad_input.shape))
