"""Focal losses, forward and backward."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision import ops

from covidmm.utils.mmcv_ops.dtypes import wide


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, *, gamma: float, alpha: float
) -> None:
    """Focal loss per element (Lin et al., 2017, eq. 5); mmdet calls it on CUDA only.

    Args:
        input: (N, C) logits.
        target: (N,) int64 class indices; C means background.
        weight: (C,) class weights, or empty for none; background has that of the last class.
        output: (N, C), filled in place.
        gamma: exponent.
        alpha: weight of positives; negatives have ``1 - alpha``.
    """
    output.copy_(_sigmoid_loss(wide(input), target, weight, gamma, alpha))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, *, gamma: float, alpha: float
) -> None:
    """Gradient of :func:`sigmoid_focal_loss_forward` with respect to the logits, written into ``grad_input``."""
    with torch.enable_grad():
        logits = wide(input).detach().requires_grad_()
        loss = _sigmoid_loss(logits, target, weight, gamma, alpha).sum()
    grad_input.copy_(torch.autograd.grad(loss, logits)[0])


def softmax_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, *, gamma: float, alpha: float
) -> None:
    """Focal loss of softmax probabilities.

    Args:
        input: (N, C) probabilities.
        target: (N,) int64 class indices; negative ones count for nothing.
        weight: (C,) class weights, or empty for none.
        output: (N,), filled in place.
        gamma: exponent.
        alpha: factor.
    """
    right = _of_target(input, target)
    output.copy_(-alpha * (1 - right) ** gamma * _log(right) * _factors(weight, target, right))


def softmax_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, buff: Tensor, grad_input: Tensor, *, gamma: float, alpha: float
) -> None:
    """Gradient of :func:`softmax_focal_loss_forward` with respect to the logits behind the probabilities.

    Args:
        input: (N, C) probabilities.
        target: (N,) int64 class indices; negative ones count for nothing.
        weight: (C,) class weights, or empty for none.
        buff: (N,), filled in place: the derivative by the logarithm of the right class's probability.
        grad_input: (N, C), written in place.
        gamma: exponent.
        alpha: factor.
    """
    right = _of_target(input, target)
    left = 1 - right
    # at left = 0 a power below 0 is infinite, and its product with log(1) = 0 no number
    slope = torch.where(left > 0, gamma * left.clamp(min=_tiny(left)) ** (gamma - 1) * right * _log(right), 0)
    buff.copy_(alpha * (slope - left**gamma) * _factors(weight, target, right))
    is_target = target[:, None] == torch.arange(input.shape[1], device=input.device)
    grad_input.copy_(wide(buff)[:, None] * (is_target.to(right.dtype) - wide(input)))


def _sigmoid_loss(logits: Tensor, target: Tensor, weight: Tensor, gamma: float, alpha: float) -> Tensor:
    classes = logits.shape[1]
    truth = (target[:, None] == torch.arange(classes, device=logits.device)).to(logits.dtype)
    loss = ops.sigmoid_focal_loss(logits, truth, alpha=alpha, gamma=gamma)
    return loss * wide(weight)[target.clamp(0, classes - 1)][:, None] if weight.numel() else loss


def _of_target(probabilities: Tensor, target: Tensor) -> Tensor:
    return wide(probabilities).gather(1, target.clamp(min=0)[:, None])[:, 0]


def _factors(weight: Tensor, target: Tensor, like: Tensor) -> Tensor:
    counted = (target >= 0).to(like.dtype)
    return counted * wide(weight)[target.clamp(min=0)] if weight.numel() else counted


def _tiny(tensor: Tensor) -> float:
    return torch.finfo(tensor.dtype).tiny


def _log(probability: Tensor) -> Tensor:
    return probability.clamp(min=_tiny(probability)).log()
