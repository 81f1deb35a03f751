"""The stand-in for ``mmcv._ext``, and the ops that it serves."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from types import ModuleType
from typing import Any

import torch

from covidmm.utils.mmcv_ops import carafe_ops, deformable_ops, focal_ops, masked_ops, nms_ops, roi_ops
from covidmm.utils.mmcv_ops.refusals import not_served

#: The ops that the detectors of MMDetection 3 reach, by the names under which MMCV calls them.
SERVED: dict[str, Callable[..., Any]] = {
    op.__name__: op
    for op in (
        nms_ops.nms,
        nms_ops.softnms,
        nms_ops.nms_match,
        nms_ops.bbox_overlaps,
        roi_ops.roi_align_forward,
        roi_ops.roi_align_backward,
        roi_ops.roi_pool_forward,
        roi_ops.roi_pool_backward,
        roi_ops.deform_roi_pool_forward,
        roi_ops.deform_roi_pool_backward,
        deformable_ops.deform_conv_forward,
        deformable_ops.deform_conv_backward_input,
        deformable_ops.deform_conv_backward_parameters,
        deformable_ops.modulated_deform_conv_forward,
        deformable_ops.modulated_deform_conv_backward,
        deformable_ops.ms_deform_attn_forward,
        deformable_ops.ms_deform_attn_backward,
        carafe_ops.carafe_naive_forward,
        carafe_ops.carafe_naive_backward,
        carafe_ops.carafe_forward,
        carafe_ops.carafe_backward,
        masked_ops.masked_im2col_forward,
        masked_ops.masked_col2im_forward,
        focal_ops.sigmoid_focal_loss_forward,
        focal_ops.sigmoid_focal_loss_backward,
        focal_ops.softmax_focal_loss_forward,
        focal_ops.softmax_focal_loss_backward,
    )
}


class Ops(ModuleType):
    """The stand-in for ``mmcv._ext``; mmcv asks it for every op by name while it is imported."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in SERVED:
            return _as_compiled(SERVED[name])

        def refuse(*args: Any, **kwargs: Any) -> None:
            raise not_served(name)

        return refuse


def _as_compiled(op: Callable[..., Any]) -> Callable[..., Any]:
    """The op as a compiled one is: it computes in the precision of what it is given, autocast or not."""

    @wraps(op)
    def served(first: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        with torch.autocast(first.device.type, enabled=False):
            return op(first, *args, **kwargs)

    return served
