"""What a pipeline makes of a few images, before a training."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from types import FrameType
from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform

from covidmm.errors import ConfigError, DataError


def boxes_after_pipeline(dataset: Any, samples: int) -> list[tuple[torch.Tensor, tuple[int, int]]]:
    """Send images with boxes through the pipeline.

    Raises:
        DataError: not one box comes out.
    """
    chosen = np.linspace(0, len(dataset) - 1, min(samples, len(dataset))).round().astype(int)
    found = []
    for index in chosen:
        sample = packed("train", dataset, int(index))
        boxes = getattr(sample.gt_instances, "bboxes", None)
        if boxes is None:
            raise ConfigError("train_dataloader.dataset.pipeline: gives no boxes; expected a step LoadAnnotations")
        found.append((getattr(boxes, "tensor", boxes).float(), tuple(sample.img_shape)))
    before = sum(len(dataset.get_data_info(int(index)).get("instances", ())) for index in chosen)
    after = sum(len(boxes) for boxes, _ in found)
    if before and not after:
        raise DataError(
            f"none of {before} ground-truth boxes survives the training pipeline; see its crops and filters"
        )
    return found


def packed(split: str, dataset: Any, index: int) -> Any:
    """What the pipeline of a data set tells the model about one image.

    Raises:
        ConfigError: a step of the pipeline fails, or the last one gives no input of a model.
    """
    name = f"{split}_dataloader.dataset.pipeline"
    try:
        found = dataset[index]
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        steps = [frame.f_locals["self"] for frame, _ in traceback.walk_tb(error.__traceback__) if _is_step(frame)]
        kind = type(steps[-1]).__name__ if steps else "a step"
        raise ConfigError(f"{name}: {kind} fails on its first image: {type(error).__name__}: {error}") from error
    if not isinstance(found, Mapping) or not {"inputs", "data_samples"} <= found.keys():
        given = ", ".join(map(str, found)) if isinstance(found, Mapping) else type(found).__name__
        raise ConfigError(f"{name}: gives {given}; expected PackDetInputs as its last step")
    return found["data_samples"]


def _is_step(frame: FrameType) -> bool:
    return isinstance(frame.f_locals.get("self"), BaseTransform)
