"""Non-maximum suppression in the variants of MMCV."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision import ops

from covidmm.utils.mmcv_ops.dtypes import wide

#: Boxes whose overlaps with all others are computed at a time; chosen here, the fastest of 16 to 128.
_ROWS = 32


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
    corners = _closed(wide(boxes), offset).numpy()  # MMCV calls this on the CPU only; NumPy has less to do for each box
    left, decayed = np.arange(len(boxes)), wide(scores).numpy().copy()
    chosen: list[int] = []
    kept: list[float] = []
    while len(left):
        best = int(decayed.argmax())
        index = int(left[best])
        chosen.append(index)
        kept.append(float(decayed[best]))
        iou = _ious(corners[index], corners[left])
        if method == 2:
            decayed = decayed * np.exp(-(iou**2) / sigma)
        else:
            decayed = np.where(iou >= iou_threshold, decayed * (1 - iou if method == 1 else 0), decayed)
        alive = decayed >= min_score
        alive[best] = False
        left, decayed = left[alive], decayed[alive]
    indices = torch.tensor(chosen, dtype=torch.int64)
    dets[: len(indices), :4], dets[: len(indices), 4] = boxes[indices], torch.tensor(kept, dtype=torch.float64).to(dets)
    return indices


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
        first = left[:_ROWS]
        overlaps = (ops.box_iou(boxes[first], boxes[left]) >= iou_threshold).numpy()
        free = np.ones(len(left), bool)
        for row in range(len(first)):
            if free[row]:
                joins = free & overlaps[row]
                joins[row] = True  # a box without an area has no IoU with itself
                groups.append(left[joins].tolist())
                free &= ~joins
        left = left[free]
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


def _ious(box: NDArray, boxes: NDArray) -> NDArray:
    """Overlaps of (4,) and (N, 4) x1 y1 x2 y2; no number where neither has an area."""
    sides = np.maximum(np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2]), 0)
    common, extents = sides[:, 0] * sides[:, 1], boxes[:, 2:] - boxes[:, :2]
    with np.errstate(invalid="ignore", divide="ignore"):
        return common / ((box[2] - box[0]) * (box[3] - box[1]) + extents[:, 0] * extents[:, 1] - common)
