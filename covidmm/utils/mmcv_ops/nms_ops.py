"""Non-maximum suppression in the variants of MMCV."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision import ops


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
    return ops.nms(boxes, scores.float(), float(iou_threshold))


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
        iou = ops.box_iou(shifted[index : index + 1], shifted[left])[0]
        if method == 2:
            decayed = decayed * torch.exp(-(iou**2) / sigma)
        else:
            decay = 1 - iou if method == 1 else torch.zeros_like(iou)
            decayed = torch.where(iou >= iou_threshold, decayed * decay, decayed)
        alive = decayed >= min_score
        left, decayed = left[alive], decayed[alive]
    return torch.tensor(chosen, dtype=torch.int64)
