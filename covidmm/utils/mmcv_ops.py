"""MMCV's compiled ops, served by torchvision where mmcv was installed without them.

``import mmdet`` needs the compiled module ``mmcv._ext``, which takes a compiler (and nvcc for CUDA) and several minutes
to build. :mod:`covidmm.utils.lazy_imports` puts :class:`Ops` in its place where there is none: its ops run on
torchvision's kernels, on the CPU and on CUDA alike. An op that is not served raises :class:`NotImplementedError` with
its name when it is called, not when mmcv is imported.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

HOW_TO_COMPILE = (
    "install a C++ compiler (and the CUDA toolkit for GPU ops), then run "
    "`pip install --force-reinstall --no-deps --no-build-isolation --no-binary :all: onedl-mmcv` "
    "with MMCV_WITH_OPS=1 in the environment"
)


def _torchvision() -> Any:
    from torchvision import ops  # a classifier never calls one, and starts the sooner

    return ops


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    """Greedy non-maximum suppression.

    Args:
        boxes: (N, 4) x1 y1 x2 y2.
        scores: (N,).
        iou_threshold: a box is dropped when its IoU with a kept one is greater.
        offset: 0, or 1 where a width is ``x2 - x1 + 1``.

    Returns:
        (K,) int64 indices of the kept boxes, best score first.
    """
    boxes = boxes.float()
    if offset:
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    return _torchvision().nms(boxes, scores.float(), float(iou_threshold))


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Soft-NMS (Bodla et al., 2017, eqs. 1 and 3).

    Args:
        boxes: (N, 4) x1 y1 x2 y2.
        scores: (N,).
        dets: (N, 5), filled in place: row k holds the k-th chosen box and its decayed score.
        iou_threshold: overlap from which methods 0 and 1 decay.
        sigma: width of the Gaussian of method 2.
        min_score: boxes that decay below it are dropped.
        method: 0 hard, 1 linear, 2 Gaussian.
        offset: 0, or 1 where a width is ``x2 - x1 + 1``.

    Returns:
        (K,) int64 indices of the chosen boxes, in the order of ``dets``.
    """
    shifted = boxes.float() + boxes.new_tensor([0, 0, offset, offset]).float()
    left, decayed = torch.arange(len(boxes)), scores.float().clone()
    chosen: list[int] = []
    while len(left):
        best = int(decayed.argmax())
        index = int(left[best])
        dets[len(chosen), :4], dets[len(chosen), 4] = boxes[index], decayed[best]
        chosen.append(index)
        others = torch.arange(len(left)) != best
        left, decayed = left[others], decayed[others]
        iou = _torchvision().box_iou(shifted[index : index + 1], shifted[left])[0]
        if method == 2:
            decayed = decayed * torch.exp(-(iou**2) / sigma)
        else:
            decay = 1 - iou if method == 1 else torch.zeros_like(iou)
            decayed = torch.where(iou >= iou_threshold, decayed * decay, decayed)
        alive = decayed >= min_score
        left, decayed = left[alive], decayed[alive]
    return torch.tensor(chosen, dtype=torch.int64)


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
    pooled = _torchvision().roi_align(
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
    _torchvision()  # loads torch.ops.torchvision
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


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, *, gamma: float, alpha: float
) -> None:
    """Focal loss per element (Lin et al., 2017, eq. 5); mmdet calls it on CUDA only.

    Args:
        input: (N, C) logits.
        target: (N,) int64 class indices; C means background.
        weight: (C,) class weights, or empty for none.
        output: (N, C), filled in place.
    """
    output.copy_(_focal_loss(input, target, weight, gamma, alpha))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, *, gamma: float, alpha: float
) -> None:
    """Gradient of :func:`sigmoid_focal_loss_forward` with respect to the logits."""
    with torch.enable_grad():
        logits = input.detach().requires_grad_()
        loss = _focal_loss(logits, target, weight, gamma, alpha).sum()
    grad_input.copy_(torch.autograd.grad(loss, logits)[0])


def _focal_loss(input: Tensor, target: Tensor, weight: Tensor, gamma: float, alpha: float) -> Tensor:
    classes = input.shape[1]
    truth = one_hot(target, classes + 1)[:, :classes].float()
    loss = _torchvision().sigmoid_focal_loss(input.float(), truth, alpha=alpha, gamma=gamma)
    return loss * weight[target.clamp(max=classes - 1)][:, None] if weight.numel() else loss


def _average_only(pool_mode: int) -> None:
    if pool_mode != 1:
        raise NotImplementedError(_not_served("roi_align with pool_mode='max'"))


def _not_served(name: str) -> str:
    return f"mmcv op '{name}' is not served by covidmm.utils.mmcv_ops and this mmcv was not compiled: {HOW_TO_COMPILE}"


_SERVED = {
    op.__name__: op
    for op in (
        nms,
        softnms,
        roi_align_forward,
        roi_align_backward,
        sigmoid_focal_loss_forward,
        sigmoid_focal_loss_backward,
    )
}


class Ops(ModuleType):
    """The stand-in for ``mmcv._ext``; mmcv asks it for every op by name while it is imported."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in _SERVED:
            return _SERVED[name]

        def refuse(*args: Any, **kwargs: Any) -> None:
            raise NotImplementedError(_not_served(name))

        return refuse
