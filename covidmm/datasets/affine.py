"""Shift, rotation, scale and shear about the middle of the image."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from mmcv.transforms.utils import cache_randomness
from mmdet.datasets.transforms import RandomAffine
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import autocast_box_type


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
    left. Masks are refused, as ``RandomAffine`` does.
    """

    @cache_randomness
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
            raise NotImplementedError("CentredAffine only supports boxes, as RandomAffine does")
        height = results["img"].shape[0] + self.border[1] * 2
        width = results["img"].shape[1] + self.border[0] * 2
        matrix = self._get_random_homography_matrix(height, width)
        pixels = _translation(-0.5, -0.5) @ matrix @ _translation(0.5, 0.5)
        results["img"] = cv2.warpAffine(results["img"], pixels[:2], (width, height), borderValue=self.border_val)
        results["img_shape"] = results["img"].shape[:2]
        boxes = results.get("gt_bboxes")
        if boxes is not None and len(boxes):
            boxes.project_(matrix)
            if self.bbox_clip_border:
                boxes.clip_([height, width])
            kept = boxes.is_inside([height, width]).numpy()
            for key in ("gt_bboxes", "gt_bboxes_labels", "gt_ignore_flags"):
                results[key] = results[key][kept]
        return results
