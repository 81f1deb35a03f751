"""Non-maximum suppression in the variants of MMCV."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision import ops

from covidmm.utils.mmcv_ops.dtypes import wide


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
    boxes = wide(boxes)
    return ops.nms(_closed(boxes, offset), scores.to(boxes.dtype), float(iou_threshold))


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
    shifted = _closed(wide(boxes), offset)
    left, decayed = torch.arange(len(boxes)), wide(scores).clone()
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


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Boxes in groups: one that suppression keeps, and those that it drops for it.

    Args:
        dets: (N, 5) x1 y1 x2 y2 score.
        iou_threshold: a box joins a kept one when their IoU is at least that.

    Returns:
        Indices of each group, best score first.
    """
    boxes, scores = wide(dets)[:, :4], dets[:, 4]
    left = scores.argsort(descending=True, stable=True)
    groups = []
    while len(left):
        joins = ops.box_iou(boxes[left[:1]], boxes[left])[0] >= iou_threshold
        joins[0] = True  # a box without an area has no IoU with itself
        groups.append(left[joins].tolist())
        left = left[~joins]
    return groups


def bbox_overlaps(bboxes1: Tensor, bboxes2: Tensor, ious: Tensor, *, mode: int, aligned: bool, offset: int) -> None:
    """Overlaps of boxes.

    Args:
        bboxes1: (M, 4) x1 y1 x2 y2.
        bboxes2: (N, 4).
        ious: (M, N), or (M,) of pairs with ``aligned``, filled in place; no number where neither box has an area.
        mode: 0 for intersection over union, 1 for intersection over the area of the first.
        aligned: whether the k-th of one belongs to the k-th of the other.
        offset: 0, or 1 where a width is ``x2 - x1 + 1``.
    """
    first, second = _closed(wide(bboxes1), offset), _closed(wide(bboxes2), offset)
    if not aligned:
        first = first[:, None]
    sides = torch.minimum(first[..., 2:], second[..., 2:]) - torch.maximum(first[..., :2], second[..., :2])
    common = sides.clamp(min=0).prod(-1)
    area = (first[..., 2:] - first[..., :2]).prod(-1)
    if mode == 0:
        area = area + (second[..., 2:] - second[..., :2]).prod(-1) - common
    ious.copy_(common / area)


def _closed(boxes: Tensor, offset: int) -> Tensor:
    """Boxes whose right and lower edges lie ``offset`` farther out."""
    return boxes + boxes.new_tensor([0, 0, offset, offset]) if offset else boxes
