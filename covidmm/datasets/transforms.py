"""Training transforms that mmcv and MMDetection do not have. Everything else is configured from theirs."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform, LoadImageFromFile
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import autocast_box_type
from mmengine.structures import BaseDataElement


@TRANSFORMS.register_module()
class LoadGreyImage(LoadImageFromFile):
    """MMCV's ``LoadImageFromFile`` for the grey images that ``tools/prepare.py`` writes: the same (H, W, 3) uint8.

    Decoding one channel and repeating it takes two thirds of the time of decoding three; a mosaic decodes eight images.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(color_type="grayscale", **settings)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Load one image."""
        results = super().transform(results)
        results["img"] = cv2.cvtColor(results["img"], cv2.COLOR_GRAY2BGR)
        return results


@TRANSFORMS.register_module()
class BoxSafeRandomCrop(BaseTransform):
    """Crops at random without cutting into any ground-truth box.

    Each edge of the crop is drawn uniformly between the edge of the image and the hull of all boxes. An image
    without boxes is cropped to a random window of at least ``min_share`` of each side. Resizing the crop is
    left to ``Resize``.

    Args:
        min_share: smallest side of a crop as a share of the image's, 0..1; a crop around boxes is widened
            to it where the image allows.

    Reads and changes ``img``, ``img_shape`` and ``gt_bboxes``.
    """

    def __init__(self, min_share: float = 0.5) -> None:
        if not 0 < min_share <= 1:
            raise ValueError(f"min_share must lie in 0..1, not {min_share}")
        self.min_share = min_share

    @autocast_box_type()
    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Crop one sample."""
        height, width = results["img"].shape[:2]
        boxes = results.get("gt_bboxes")
        hull = (None, None, None, None)
        if boxes is not None and len(boxes):
            corners = boxes.tensor
            hull = (*corners[:, :2].amin(0).tolist(), *corners[:, 2:].amax(0).tolist())
        left, right = self._draw(width, hull[0], hull[2])
        top, bottom = self._draw(height, hull[1], hull[3])
        results["img"] = np.ascontiguousarray(results["img"][top:bottom, left:right])
        results["img_shape"] = results["img"].shape[:2]
        if boxes is not None:
            boxes.translate_([-left, -top])
        return results

    def _draw(self, size: int, first: float | None, last: float | None) -> tuple[int, int]:
        """Draw the two edges along one side of ``size`` pixels that must keep ``first``..``last`` inside."""
        least = int(np.ceil(size * self.min_share))
        if first is None or last is None:
            extent = np.random.randint(least, size + 1)
            start = np.random.randint(0, size - extent + 1)
            return start, start + extent
        start = int(np.random.uniform(0, max(first, 0)))
        end = int(np.ceil(np.random.uniform(min(last, size), size)))
        if end - start < least:
            start = int(np.random.randint(max(0, end - least), min(start, size - least) + 1))
            end = start + least
        return start, max(end, int(np.ceil(min(last, size))))


@TRANSFORMS.register_module()
class RandomBlur(BaseTransform):
    """Box blur with a kernel drawn from a list of sizes.

    Args:
        kernel_sizes: odd sizes in pixels.
    """

    def __init__(self, kernel_sizes: tuple[int, ...] = (3, 5)) -> None:
        self.kernel_sizes = tuple(kernel_sizes)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Blur one image."""
        size = int(np.random.choice(self.kernel_sizes))
        results["img"] = cv2.blur(results["img"], (size, size))
        return results


@TRANSFORMS.register_module()
class CircularCutout(BaseTransform):
    """Blackens up to ``max_holes`` discs at random places (after DeVries and Taylor, 2017). Boxes stay.

    Args:
        max_holes: at most so many discs; at least one.
        radius: smallest and largest radius in pixels.
    """

    def __init__(self, max_holes: int, radius: tuple[int, int]) -> None:
        if max_holes < 1 or not 1 <= radius[0] <= radius[1]:
            raise ValueError(f"max_holes and radius must be positive, not {max_holes} and {tuple(radius)}")
        self.max_holes = max_holes
        self.radius = tuple(radius)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Cut discs out of one image."""
        image = results["img"].copy()
        height, width = image.shape[:2]
        for _ in range(np.random.randint(1, self.max_holes + 1)):
            centre = (int(np.random.randint(width)), int(np.random.randint(height)))
            radius = int(np.random.randint(self.radius[0], self.radius[1] + 1))
            cv2.circle(image, centre, radius, (0,) * 3, thickness=cv2.FILLED)
        results["img"] = image
        return results


@TRANSFORMS.register_module()
class PackClassInputs(BaseTransform):
    """Packs an image and its label vector for :class:`~covidmm.models.classifier.RadiographClassifier`.

    Reads ``img`` (H, W, 3) and ``gt_label`` (classes,); gives ``inputs`` (3, H, W) uint8 and ``data_samples`` with
    ``target``, a float32 array, and the meta keys that the sample has.

    Args:
        meta_keys: what is handed on.
    """

    def __init__(self, meta_keys: tuple[str, ...] = ("img_id", "img_path", "image_id", "study_id")) -> None:
        self.meta_keys = tuple(meta_keys)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Pack one sample."""
        meta = {key: results[key] for key in self.meta_keys if key in results}
        sample = BaseDataElement(metainfo=meta)
        # an array travels with the sample; a tensor would be fetched from the loading process on its own, in 0.2 ms
        sample.target = np.asarray(results["gt_label"], np.float32)
        image = np.ascontiguousarray(results["img"].transpose(2, 0, 1))
        return {"inputs": torch.from_numpy(image), "data_samples": sample}
