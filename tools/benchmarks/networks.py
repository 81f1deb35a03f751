"""What the benchmarks of networks share: models of configs, and training steps of MMEngine and of a plain loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from benchmarks.timing import Step
from covidmm.engine.config import load_config
from covidmm.engine.optimization import MixedPrecisionOptimWrapper
from covidmm.errors import DataError

ROOT = Path(__file__).parents[2]
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
#: What mixed precision computes in: float16 with loss scaling on CUDA, bfloat16 on a CPU.
MIXED = torch.float16 if DEVICE.type == "cuda" else torch.bfloat16
#: Two networks must give the same on the same weights; float32 sums in another order differ by less.
TOLERANCE = 1e-3


def facts() -> dict[str, Any]:
    """What PyTorch runs on."""
    device = torch.cuda.get_device_name() if DEVICE.type == "cuda" else "cpu"
    return {"threads": torch.get_num_threads(), "device": device}


def name_of(dtype: torch.dtype) -> str:
    """``float32``, for example."""
    return str(dtype).removeprefix("torch.")


def build_model(config: str | Path | Config) -> nn.Module:
    """The model of a config, with random weights: weights do not change the time."""
    cfg = config if isinstance(config, Config) else load_config(config)
    init_default_scope(cfg.get("default_scope", "mmdet"))
    return MODELS.build(cfg.model)


def random_images(batch: int, pixels: int) -> Tensor:
    """(batch, 3, pixels, pixels) uint8, the same each time."""
    return torch.randint(256, (batch, 3, pixels, pixels), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def require_same(ours: Iterable[Tensor], reference: Iterable[Tensor], what: str) -> None:
    """Compare what two networks give on the same weights.

    Raises:
        DataError: it differs, so a ratio of their times would mean nothing.
    """
    for one, other in zip(ours, reference, strict=True):
        if not torch.allclose(one, other, atol=TOLERANCE * float(other.abs().max())):
            raise DataError(f"the two {what} differ on the same weights: their times cannot be compared")


def autocast(dtype: torch.dtype) -> torch.autocast:
    """A context that computes in a type."""
    return torch.autocast(DEVICE.type, dtype, enabled=dtype is not torch.float32)


def mmengine_step(model: nn.Module, batch: Callable[[], dict[str, Any]], dtype: torch.dtype) -> Step:
    """A training step as MMEngine's loop takes it: preprocessor, forward pass, losses, backward pass, optimizer."""
    wrapper = OptimWrapper if dtype is torch.float32 else MixedPrecisionOptimWrapper
    optimizer = wrapper(optimizer=_sgd(model))

    def step() -> None:
        model.train()
        model.train_step(batch(), optimizer)

    return step


def plain_step(model: nn.Module, loss_of: Callable[[], Tensor], dtype: torch.dtype) -> Step:
    """A training step of a plain loop: the loss, its backward pass, the optimizer."""
    optimizer = _sgd(model)
    scaler = torch.amp.GradScaler(DEVICE.type, enabled=dtype is torch.float16)

    def step() -> None:
        model.train()
        with autocast(dtype):
            loss = loss_of()
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    return step


def _sgd(model: nn.Module) -> torch.optim.SGD:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.SGD(trained, lr=1e-3, momentum=0.9, nesterov=True)
