"""Augmentations of YOLOv5 that MMDetection does not have, under MMYOLO's names and keys.

They are written from their definitions, after the package ``yolov5`` 7.0: with the same seed of NumPy the pixels are
the same, as ``tests/datasets/test_yolov5_augment.py`` checks where the package is installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform, Compose
from mmdet.registry import TRANSFORMS

from covidmm.errors import ConfigError


@TRANSFORMS.register_module()
class YOLOv5HSVRandomAug(BaseTransform):
    """Hue, saturation and value, each times a factor of its own, by tables of 256 uint8 entries.

    The factors are drawn uniformly from 1 - delta to 1 + delta. Hue wraps around at 180, saturation and value end at
    255, so that pixels stay in 0..255. On grey images, whose hue and saturation are 0, only value changes anything: the
    image becomes darker or brighter. Boxes stay.

    Args:
        hue_delta: of the factor of hue, 0..1.
        saturation_delta: of the factor of saturation, 0..1.
        value_delta: of the factor of value, 0..1.

    Raises:
        ConfigError: a delta outside 0..1, or an image that is not (H, W, 3) uint8.
    """

    def __init__(self, hue_delta: float = 0.015, saturation_delta: float = 0.7, value_delta: float = 0.4) -> None:
        self.deltas = (hue_delta, saturation_delta, value_delta)
        if not all(0 <= delta <= 1 for delta in self.deltas):
            raise ConfigError(f"YOLOv5HSVRandomAug: deltas must lie in 0..1, not {self.deltas}")

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Change the colours of one image."""
        image = results["img"]
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ConfigError(f"YOLOv5HSVRandomAug: expected (H, W, 3) uint8, got {image.shape} {image.dtype}")
        hue, saturation, value = np.random.uniform(-1, 1, 3) * self.deltas + 1
        levels = np.arange(256)
        tables = (levels * hue % 180, (levels * saturation).clip(0, 255), (levels * value).clip(0, 255))
        # OpenCV takes the table of each channel from the last axis
        table = np.stack(tables, -1).astype(np.uint8)[None]
        colours = cv2.LUT(cv2.cvtColor(image, cv2.COLOR_BGR2HSV), table)
        results["img"] = cv2.cvtColor(colours, cv2.COLOR_HSV2BGR)
        return results


@TRANSFORMS.register_module()
class YOLOv5MixUp(BaseTransform):
    """Mixes an image with another one that went through the same transforms, and keeps the boxes of both.

    The weight of the first is drawn from Beta(alpha, beta), near a half for YOLOv5's 32 and 32 (Zhang et al., 2018). It
    is a transform of ``MultiImageMixDataset``.

    Args:
        pre_transform: transforms of the second image, those that the first had before; at most one mixes images itself,
            as ``Mosaic`` does, and gets other images for it.
        alpha: of the Beta distribution.
        beta: of the Beta distribution.
        prob: share of samples that are mixed, 0..1. The others draw, and load, nothing.

    Raises:
        ConfigError: ``prob`` outside 0..1, ``alpha`` or ``beta`` not above 0, more than one mixing transform, or two
            images of different sizes.
    """

    def __init__(
        self, pre_transform: Sequence[dict] = (), alpha: float = 32.0, beta: float = 32.0, prob: float = 1.0
    ) -> None:
        if not 0 <= prob <= 1:
            raise ConfigError(f"YOLOv5MixUp: prob must lie in 0..1, not {prob}")
        if min(alpha, beta) <= 0:
            raise ConfigError(f"YOLOv5MixUp: alpha and beta must be above 0, not {alpha} and {beta}")
        self.alpha, self.beta, self.prob = alpha, beta, prob
        self.pre_transform = Compose(pre_transform)
        mixing = [step for step in self.pre_transform if hasattr(step, "get_indexes")]
        if len(mixing) > 1:
            raise ConfigError("YOLOv5MixUp: pre_transform may have one transform that mixes images, not several")
        self._mixing = mixing[0] if mixing else None

    def get_indexes(self, dataset: Any) -> list[int]:
        """The second image and those that its own mixing needs, or none."""
        if np.random.uniform() >= self.prob:
            return []
        second = int(np.random.randint(len(dataset)))
        return [second, *(self._mixing.get_indexes(dataset) if self._mixing else ())]

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Mix in the image that was drawn, if one was."""
        if not results["mix_results"]:
            return results
        second, *others = results["mix_results"]
        second = self.pre_transform({**second, "mix_results": others})
        if results["img"].shape != second["img"].shape:
            sizes = " and ".join("x".join(map(str, one["img"].shape[1::-1])) for one in (results, second))
            raise ConfigError(
                f"YOLOv5MixUp: the images have different sizes, {sizes}; pre_transform must make one size"
            )
        weight = np.random.beta(self.alpha, self.beta)
        # cut off and not rounded, as published
        results["img"] = (results["img"] * weight + second["img"] * (1 - weight)).astype(np.uint8)
        boxes = results["gt_bboxes"]
        results["gt_bboxes"] = boxes.cat([boxes, second["gt_bboxes"]])
        for key in ("gt_bboxes_labels", "gt_ignore_flags"):
            results[key] = np.concatenate([results[key], second[key]])
        return results
