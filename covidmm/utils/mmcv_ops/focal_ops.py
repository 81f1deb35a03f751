"""Focal losses, forward and backward."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torchvision import ops


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
    loss = ops.sigmoid_focal_loss(input.float(), truth, alpha=alpha, gamma=gamma)
    return loss * weight[target.clamp(max=classes - 1)][:, None] if weight.numel() else loss
