"""The stand-in for ``mmcv._ext``, and the ops that it serves."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from covidmm.utils.mmcv_ops import focal_ops, nms_ops, roi_ops
from covidmm.utils.mmcv_ops.refusals import not_served

_SERVED = {
    op.__name__: op
    for op in (
        nms_ops.nms,
        nms_ops.softnms,
        roi_ops.roi_align_forward,
        roi_ops.roi_align_backward,
        focal_ops.sigmoid_focal_loss_forward,
        focal_ops.sigmoid_focal_loss_backward,
    )
}


class Ops(ModuleType):
    """The stand-in for ``mmcv._ext``; mmcv asks it for every op by name while it is imported."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in _SERVED:
            return _SERVED[name]

        def refuse(*args: Any, **kwargs: Any) -> None:
            raise NotImplementedError(not_served(name))

        return refuse
