"""One mixed-precision switch for GPU and CPU."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class MixedPrecisionOptimWrapper(AmpOptimWrapper):
    """Mixed precision by torch autocast: float16 with loss scaling on CUDA, bfloat16 without it on a CPU.

    MMEngine's own wrapper refuses to run without a GPU. bfloat16 has float32's exponent range, so gradients
    do not underflow and the loss needs no scaling.

    Args:
        loss_scale: as :class:`mmengine.optim.AmpOptimWrapper`; CUDA only.
        **kwargs: passed to :class:`mmengine.optim.OptimWrapper`.
    """

    def __init__(self, loss_scale: str | float | dict = "dynamic", **kwargs: Any) -> None:
        if torch.cuda.is_available():
            super().__init__(loss_scale=loss_scale, dtype="float16", **kwargs)
        else:
            OptimWrapper.__init__(self, **kwargs)
            self.loss_scaler = torch.amp.GradScaler("cpu", enabled=False)
            self._scale_update_param = None
            self.cast_dtype = torch.bfloat16
