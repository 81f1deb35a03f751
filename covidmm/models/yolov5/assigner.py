"""Which cells and anchors answer for a box: the assignment rule of YOLOv5."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from mmdet.registry import TASK_UTILS
from torch import Tensor

from .coder import CENTRE_RANGE, LARGEST_RATIO

#: The cell of the centre and its four neighbours, as (column, row) steps.
NEIGHBOURS = ((0, 0), (-1, 0), (0, -1), (1, 0), (0, 1))


@dataclass(frozen=True)
class Matches:
    """M pairs of a box and an answering (image, anchor, row, column) of one level; tensors of length M.

    ``box`` is the index of the box among those given.
    """

    box: Tensor
    image: Tensor
    anchor: Tensor
    row: Tensor
    column: Tensor


@TASK_UTILS.register_module()
class AnchorRatioAssigner:
    """Assigns a box to every anchor of similar shape, in up to three cells.

    An anchor answers if neither side is more than ``max_ratio`` times larger or smaller than the box's. Of the
    cell that holds the centre and its four neighbours, those answer whose outputs can reach that centre, -0.5 to
    1.5 cells from their near edge. A box can match anchors of several levels, and several boxes one anchor.

    Args:
        max_ratio: at most the 4 that the box coder can reach.

    Raises:
        ValueError: ``max_ratio`` is not in 1..4.
    """

    def __init__(self, max_ratio: float = LARGEST_RATIO) -> None:
        if not 1 < max_ratio <= LARGEST_RATIO:
            raise ValueError(f"max_ratio is {max_ratio}, it must be above 1 and at most {LARGEST_RATIO:.0f}")
        self.max_ratio = max_ratio

    def shapes_match(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """(N, A) booleans: the anchors (A, 2), widths and heights, that answer for boxes (N, 4) x1 y1 x2 y2.

        Nothing answers for a box without an area.
        """
        sides = boxes[:, None, 2:] - boxes[:, None, :2]
        ratio = sides / anchors
        # written so that a side of zero, and NaN, match nothing
        return ((ratio > 1 / self.max_ratio) & (ratio < self.max_ratio)).all(-1)

    def assign(
        self, boxes: Tensor, images: Tensor, anchors: Tensor, stride: tuple[int, int], size: tuple[int, int]
    ) -> Matches:
        """Match the boxes of a batch on one level.

        Args:
            boxes: (N, 4) x1 y1 x2 y2 in pixels.
            images: (N,) the image that each is on.
            anchors: (A, 2) widths and heights in pixels.
            stride: pixels per cell, horizontally and vertically.
            size: rows and columns of the level.
        """
        rows, columns = size
        box, anchor = self.shapes_match(boxes, anchors).nonzero(as_tuple=True)
        centres = (boxes[box, :2] + boxes[box, 2:]) / 2 / boxes.new_tensor(stride)
        steps = torch.tensor(NEIGHBOURS, device=boxes.device)
        # a centre on the far border belongs to the last cell
        own = centres.floor().long().minimum(torch.tensor([columns - 1, rows - 1], device=boxes.device)).clamp(min=0)
        cells = own + steps[:, None]  # (5, M, 2)
        offset = centres - cells
        low, high = CENTRE_RANGE
        inside = (cells >= 0) & (cells < torch.tensor([columns, rows], device=boxes.device))
        answers = ((offset > low) & (offset < high) & inside).all(-1)
        answers[0] = True
        _, which = answers.nonzero(as_tuple=True)
        cells = cells[answers]
        box, anchor = box[which], anchor[which]
        return Matches(box, images[box], anchor, cells[:, 1], cells[:, 0])
