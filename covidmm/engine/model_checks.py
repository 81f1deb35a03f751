"""Checks of a built model that need no data: ops of MMCV, channels that do not meet, losses of undecoded boxes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from importlib import import_module
from itertools import chain
from typing import Any

import torch
from mmdet.models.detectors import GLIP, BaseDetector, GroundingDINO, MaskFormer
from mmdet.models.detectors.base_detr import DetectionTransformer
from mmdet.models.detectors.single_stage_instance_seg import SingleStageInstanceSegmentor
from mmdet.models.losses import BoundedIoULoss, CIoULoss, DIoULoss, EIoULoss, GIoULoss, IoULoss, SIoULoss
from mmdet.models.roi_heads import SparseRoIHead
from torch import nn

from covidmm.errors import ConfigError
from covidmm.utils.mmcv_ops.refusals import HOW_TO_COMPILE, ops_not_served, suppressions_not_served
from covidmm.utils.mmcv_ops.served import SERVED, Ops

_OVERLAP_LOSSES = (BoundedIoULoss, CIoULoss, DIoULoss, EIoULoss, GIoULoss, IoULoss, SIoULoss)
#: Side in pixels of the image that goes through a model to see which channels it hands on; chosen here.
_SIDE = 64
#: PyTorch's words where a convolution gets other channels than it was made for.
_MISMATCH = re.compile(r"expected input.* to have (\d+) channels, but got (\d+) channels")


def check_ops(model: nn.Module) -> None:
    """Refuse a model with a part, or a suppression, that needs a compiled MMCV, where there is none.

    Raises:
        ConfigError: the part's name in the model, its op, and how to get a compiled MMCV.
    """
    if isinstance(import_module("mmcv._ext"), Ops):
        configs = [
            suppressions_not_served(getattr(module, key, None), SERVED, f"{name}.{key}".lstrip("."))
            for name, module in model.named_modules()
            for key in ("test_cfg", "train_cfg")
        ]
        for name, reason in chain(ops_not_served(model, SERVED), *configs):
            raise ConfigError(f"model.{name}: {reason}, and this mmcv was not compiled: {HOW_TO_COMPILE}")


def why_no_boxes(model: nn.Module) -> str | None:
    """Why a model cannot find boxes on images alone, in words; None where it may."""
    if not isinstance(model, BaseDetector):
        return "is no detector of MMDetection"
    if isinstance(model, GLIP | GroundingDINO):
        return "needs a text with every image"
    masks_alone = isinstance(model, SingleStageInstanceSegmentor) and getattr(model, "bbox_head", None) is None
    if masks_alone or (isinstance(model, MaskFormer) and not model.test_cfg.get("instance_on")):
        return "finds masks, no boxes"
    return None


def frozen_at_random(model: nn.Module, cfg: Mapping[str, Any]) -> str | None:
    """A sentence on parts of a backbone that cannot learn, though nothing fills them; None where all is well.

    Args:
        model: built, in training mode.
        cfg: the whole config.
    """
    if (
        cfg.get("load_from")
        or cfg.get("resume")
        or cfg.get("pretrained") not in (None, "none")
        or _begins_from_file(cfg.get("model"))
    ):
        return None
    backbone = getattr(model, "backbone", None)
    frozen = [name for name, one in backbone.named_parameters() if not one.requires_grad] if backbone else []
    norms = getattr(backbone, "norm_eval", False)
    if not frozen and not norms:
        return None
    parts = [f"{len(frozen)} of its parameters are frozen (from {frozen[0]})"] if frozen else []
    parts += ["its batch norms keep their first statistics (norm_eval=True)"] if norms else []
    return (
        f"model.backbone begins from random weights, and {' and '.join(parts)}: name weights, or set frozen_stages=-1, "
        "norm_eval=False and norm_cfg.requires_grad=True"
    )


def _begins_from_file(config: Any) -> bool:
    if isinstance(config, Mapping):
        begins = any(isinstance(config.get(key), str) for key in ("checkpoint", "pretrained"))
        return begins or any(map(_begins_from_file, config.values()))
    return isinstance(config, list | tuple) and any(map(_begins_from_file, config))


def check_box_losses(model: nn.Module) -> None:
    """Refuse a loss of overlaps on what the head has not decoded into boxes; see docs/box-losses.md.

    Raises:
        ConfigError: ``reg_decoded_bbox=True`` is missing, by the name of the head in the model.
    """
    for name, head in model.named_modules():
        loss = getattr(head, "loss_bbox", None)
        if getattr(head, "reg_decoded_bbox", True) or not isinstance(loss, _OVERLAP_LOSSES) or not _asks(type(head)):
            continue
        raise ConfigError(
            f"model.{name}.loss_bbox is {type(loss).__name__}, which compares boxes, but {type(head).__name__} gives "
            f"it deltas: set model.{name}.reg_decoded_bbox=True, or another loss"
        )


def check_queries(model: nn.Module) -> None:
    """Refuse a detector of fewer scores than boxes to return: MMDetection's ``topk`` fails at the first image.

    With the 80 classes of COCO a hundred queries have scores enough, with one class they may not. This is for the kin
    of DETR and Sparse R-CNN; others suppress boxes and return what is left.

    Raises:
        ConfigError: ``max_per_img`` is over queries times classes.
    """
    if isinstance(model, DetectionTransformer):
        head, queries, key, test_cfg = model.bbox_head, model.num_queries, "num_queries", model.test_cfg
        name = "model.test_cfg.max_per_img"
    elif isinstance(getattr(model, "roi_head", None), SparseRoIHead):
        head, queries, key = model.roi_head.bbox_head[-1], model.rpn_head.num_proposals, "rpn_head.num_proposals"
        name, test_cfg = "model.test_cfg.rcnn.max_per_img", model.roi_head.test_cfg
    else:
        return
    # without sigmoid DETR's heads take the best class of a query, Sparse R-CNN's take them all
    several = head.loss_cls.use_sigmoid or not isinstance(model, DetectionTransformer)
    scores = queries * head.num_classes if several else queries
    wanted = (test_cfg or {}).get("max_per_img", 0)
    if wanted > scores:
        classes = f", which times num_classes={head.num_classes} is {scores} scores" if several else ""
        raise ConfigError(
            f"{name} is {wanted}, model.{key} is {queries}{classes}: set {name}={scores}, or more queries"
        )


def check_channels(model: nn.Module) -> None:
    """Send an empty image through backbone, neck and heads, and name the first part whose channels do not fit.

    What fails for another reason, such as a backbone that needs a larger image, is left to the first forward.

    Raises:
        ConfigError: a neck or head expects other channels than it gets.
    """
    backbone = getattr(model, "backbone", None)
    if not isinstance(backbone, nn.Module):
        return
    parameter = next(model.parameters())
    image = torch.zeros(1, 3, _SIDE, _SIDE, device=parameter.device, dtype=parameter.dtype)
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            found, source = _passed(backbone, image, "backbone", "", image), "backbone"
            for part in ("neck", "rpn_head", "bbox_head"):
                module = getattr(model, part, None)
                if found is None or not isinstance(module, nn.Module):
                    continue
                handed = _passed(module, found, part, source, image)
                if part == "neck":
                    found, source = handed, part
            _check_levels(model, found, source)
            _check_extractor(model, found, source)
    finally:
        for module, training in modes.items():
            module.training = training


def _passed(module: nn.Module, value: Any, part: str, source: str, image: torch.Tensor) -> Any:
    """What a part makes of a value; None where it cannot be told."""
    try:
        return module(value)
    except Exception as error:  # a model is a program: anything can come out of it
        expected, given = getattr(module, "in_channels", None), _channels(value)
        wrong_count = isinstance(expected, list | tuple) and isinstance(error, AssertionError)
        if value is not image and (_MISMATCH.search(str(error)) or (wrong_count and len(expected) != len(given))):
            raise ConfigError(
                f"model.{part}.in_channels is {expected}, model.{source} gives {given if len(given) > 1 else given[0]}"
            ) from error
        return None


def _check_levels(model: nn.Module, found: Any, source: str) -> None:
    """Anchors and points lie on as many maps as the heads get; MMDetection asserts it without words."""
    for part in ("rpn_head", "bbox_head"):
        levels = getattr(getattr(getattr(model, part, None), "prior_generator", None), "num_levels", None)
        if isinstance(found, list | tuple) and isinstance(levels, int) and levels != len(found):
            raise ConfigError(
                f"model.{part}: its anchors or points have {levels} strides, model.{source} gives {len(found)} maps"
            )


def _check_extractor(model: nn.Module, found: Any, source: str) -> None:
    extractor = getattr(getattr(model, "roi_head", None), "bbox_roi_extractor", None)
    expected = getattr(extractor, "out_channels", None)
    given = set(_channels(found)[: getattr(extractor, "num_inputs", None)]) if found is not None else set()
    if isinstance(expected, int) and given and given != {expected}:
        raise ConfigError(
            f"model.roi_head.bbox_roi_extractor.out_channels is {expected}, model.{source} gives {sorted(given)}"
        )


def _channels(value: Any) -> list[int]:
    return [one.shape[1] for one in (value if isinstance(value, list | tuple) else [value])]


def _asks(kind: type) -> bool:
    """Whether the code of a head that calls its box loss looks at ``reg_decoded_bbox``; others decode anyway."""
    for _, method in inspect.getmembers(kind, inspect.isfunction):
        if "loss_bbox" in method.__code__.co_names and "reg_decoded_bbox" in method.__code__.co_names:
            return True
    return False
