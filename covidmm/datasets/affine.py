"""Shift, rotation, scale and shear about the middle of the image."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import torch
from mmdet.datasets.transforms import RandomAffine
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import autocast_box_type

from covidmm.errors import ConfigError


def _translation(x: float, y: float) -> np.ndarray:
    """Moving by x and y pixels, (3, 3)."""
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], dtype=np.float64)


@TRANSFORMS.register_module()
class CentredAffine(RandomAffine):
    """MMDetection's ``RandomAffine`` about the middle of the image, as YOLOv5, OpenCV and albumentations do it.

    MMDetection's (of YOLOX) turns, scales and shears about the top left corner. Here the middle of the input is moved
    by the drawn shift from the middle of the output, and by nothing else. Arguments and draws are those of
    ``RandomAffine``: the same seed gives the same angle, scale, shear and shift.

    Coordinates are those of boxes: the pixel in column 0 reaches from x = 0 to 1, its middle is at 0.5 and the middle
    of an image of W pixels at W / 2. OpenCV counts from the middle of pixel 0, where that point is (W - 1) / 2; pixels
    are warped by the matrix of the boxes, moved by this half pixel, so that both stay together at every scale.

    A box becomes the enclosing box of its four moved corners, clipped to the output; it is dropped where nothing is
    left, or less than the three limits ask for. Masks are refused, as ``RandomAffine`` does.

    Args:
        min_bbox_size: both sides of a box that stays are longer, in pixels of the output.
        min_area_ratio: a box that stays keeps more than this share of its area, 0..1; the whole is the area before the
            move times the change of area of the move, so that a smaller image loses nothing by being smaller.
        max_aspect_ratio: the longer side of a box that stays is shorter than so many times the other.
        **kwargs: of MMDetection's ``RandomAffine``.

    Raises:
        ConfigError: a limit out of range, or masks beside the boxes.
    """

    def __init__(
        self,
        min_bbox_size: float = 0.0,
        min_area_ratio: float = 0.0,
        max_aspect_ratio: float = math.inf,
        **kwargs: Any,
    ) -> None:
        if min_bbox_size < 0 or not 0 <= min_area_ratio < 1 or max_aspect_ratio <= 1:
            raise ConfigError(
                "CentredAffine: expected min_bbox_size >= 0, min_area_ratio in 0..1 and max_aspect_ratio > 1, not "
                f"{min_bbox_size}, {min_area_ratio} and {max_aspect_ratio}"
            )
        super().__init__(**kwargs)
        self.min_bbox_size = min_bbox_size
        self.min_area_ratio = min_area_ratio
        self.max_aspect_ratio = max_aspect_ratio

    def _get_random_homography_matrix(self, height: int, width: int) -> np.ndarray:
        """From the input's to the output's coordinates, (3, 3); ``height`` and ``width`` are the output's."""
        drawn = super()._get_random_homography_matrix(height, width)
        middle = _translation(width / 2, height / 2)
        # the output is `border` larger than the input on each side
        return middle @ drawn @ _translation(self.border[0] - width / 2, self.border[1] - height / 2)

    @autocast_box_type()
    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Move one image and its boxes."""
        if "gt_masks" in results:
            raise ConfigError("CentredAffine moves boxes, not masks; load annotations without with_mask=True")
        height = results["img"].shape[0] + self.border[1] * 2
        width = results["img"].shape[1] + self.border[0] * 2
        matrix = self._get_random_homography_matrix(height, width)
        pixels = _translation(-0.5, -0.5) @ matrix @ _translation(0.5, 0.5)
        results["img"] = cv2.warpAffine(results["img"], pixels[:2], (width, height), borderValue=self.border_val)
        results["img_shape"] = results["img"].shape[:2]
        boxes = results.get("gt_bboxes")
        if boxes is not None and len(boxes):
            whole = boxes.areas * abs(np.linalg.det(matrix))
            boxes.project_(matrix)
            if self.bbox_clip_border:
                boxes.clip_([height, width])
            kept = (boxes.is_inside([height, width]) & self._large_enough(boxes.tensor, whole)).numpy()
            for key in ("gt_bboxes", "gt_bboxes_labels", "gt_ignore_flags"):
                results[key] = results[key][kept]
        return results

    def _large_enough(self, boxes: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
        """Which of the moved boxes (N, 4) the three limits leave; ``whole`` (N,) is what their areas would be uncut."""
        sides = boxes[:, 2:] - boxes[:, :2]
        shorter, longer = sides.amin(1), sides.amax(1)
        # products, not ratios, so that no box divides by zero
        area_left = shorter * longer > self.min_area_ratio * whole
        return (shorter > self.min_bbox_size) & area_left & (longer < self.max_aspect_ratio * shorter)
