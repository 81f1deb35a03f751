"""The report's backbone stage beside a plain PyTorch loop: torchvision's network, the same weights, one process."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.machine import machine
from benchmarks.timing import STAGES, Step, time_in_turn
from covidmm.errors import DataError
from covidmm.utils.malloc import NEVER_RELEASE, keep_freed_memory

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

#: What can be timed, by torchvision's name, and the config that it is covidmm's counterpart of.
EXPERIMENTS = {"resnext101_32x8d": "configs/x101_nih.py", "resnet18": "configs/small/r18_nih.py"}
#: Both networks must give the same logits on the same weights; float32 sums in another order differ by less.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Timing:
    """covidmm against the plain loop in one case. Seconds are medians; ``ratio`` below 1 means covidmm is faster."""

    stage: str
    precision: str
    ratio: float
    seconds: float
    reference_seconds: float


def benchmark(
    backbone: str = "resnext101_32x8d",
    pixels: int = 224,
    batch: int = 8,
    repeats: int = 5,
    stages: tuple[str, ...] = STAGES,
) -> dict[str, Any]:
    """Time inference and a training step of a finding classifier and of a plain loop, in turn.

    Both start from the same uint8 images. covidmm's step is what MMEngine's loops call: the data preprocessor, the
    forward pass and, in training, the losses' book-keeping and the optimizer wrapper. The plain loop is
    normalisation, torchvision's network with the report's hidden layer, ``BCEWithLogitsLoss``, backward, SGD.
    Mixed precision is float16 with loss scaling on CUDA, bfloat16 on a CPU.

    Args:
        backbone: one of :data:`EXPERIMENTS`.
        pixels: side of the square images.
        batch: images per step.
        repeats: timed runs of each, see :func:`~benchmarks.timing.time_in_turn`.
        stages: of :data:`~benchmarks.timing.STAGES`.

    Returns:
        The figures and the machine, ready for JSON; ``timings`` holds :class:`Timing` as dicts, ``speedup`` is
        covidmm's float32 seconds over its mixed-precision seconds, per stage.

    Raises:
        DataError: the two networks differ on the same weights, so a ratio would mean nothing.
    """
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    keep_freed_memory(NEVER_RELEASE)  # as training does; both sides gain
    mixed = torch.float16 if device.type == "cuda" else torch.bfloat16
    ours = _our_model(backbone).to(device)
    reference = _reference_model(backbone, ours).to(device)
    data = _Data(batch, pixels, ours.num_classes, device)
    _require_same(ours, reference, data)
    ways = (_our_inference, _reference_inference), (_our_train_step, _reference_train_step)
    makers, timings = dict(zip(STAGES, ways, strict=True)), []
    for precision in (torch.float32, mixed):
        for stage in stages:
            make_ours, make_reference = makers[stage]
            pair = make_ours(ours, data, precision), make_reference(reference, data, precision)
            taken, reference_taken, ratio = time_in_turn(*pair, repeats, device.type == "cuda")
            timings.append(Timing(stage, str(precision).removeprefix("torch."), ratio, taken, reference_taken))
    half = len(timings) // 2
    return {
        "benchmark": "classifier",
        "model": backbone,
        "parameters": sum(parameter.numel() for parameter in ours.parameters()),
        "pixels": pixels,
        "batch": batch,
        "repeats": repeats,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "timings": [asdict(one) for one in timings],
        "speedup": {
            full.stage: full.seconds / less.seconds for full, less in zip(timings[:half], timings[half:], strict=True)
        },
        "machine": machine("torch", "torchvision", "onedl-mmdetection", "onedl-mmengine"),
    }


def format_report(report: dict[str, Any]) -> str:
    """A table for people, ratio first."""
    lines = [f"{'ratio':>6} {'stage':<11} {'precision':<9} {'covidmm s':>10} {'plain s':>10}"]
    for one in report["timings"]:
        times = f"{one['seconds']:>10.3f} {one['reference_seconds']:>10.3f}"
        lines.append(f"{one['ratio']:>6.3f} {one['stage']:<11} {one['precision']:<9} {times}")
    faster = ", ".join(f"{stage} {value:.2f}" for stage, value in report["speedup"].items())
    return "\n".join([*lines, f"mixed precision is faster than float32 by: {faster}"])


class _Data:
    """One batch: uint8 images as a data loader hands them over, and targets."""

    def __init__(self, batch: int, pixels: int, classes: int, device: torch.device) -> None:
        import torch
        from mmengine.structures import BaseDataElement

        generator = torch.Generator().manual_seed(0)
        self.device = device
        self.images = torch.randint(256, (batch, 3, pixels, pixels), dtype=torch.uint8, generator=generator)
        self.targets = torch.randint(2, (batch, classes), generator=generator).float()
        self.samples = [BaseDataElement() for _ in range(batch)]
        for sample, target in zip(self.samples, self.targets, strict=True):
            sample.target = target.numpy()

    def batch(self) -> dict[str, Any]:
        """As MMEngine's collate function gives it."""
        return {"inputs": list(self.images), "data_samples": self.samples}

    def normalised(self) -> Tensor:
        """As the plain loop prepares it: the channels in RGB, ImageNet's mean and deviation."""
        from torchvision.transforms.functional import normalize

        images = self.images.to(self.device)[:, [2, 1, 0]].float() / 255
        return normalize(images, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), inplace=True)


def _our_model(backbone: str) -> nn.Module:
    from mmdet.registry import MODELS
    from mmengine.registry import init_default_scope

    from covidmm.engine.config import load_config

    config = load_config(Path(__file__).parents[2] / EXPERIMENTS[backbone])
    init_default_scope("mmdet")
    return MODELS.build(config.model)  # initialised at random: weights do not change the time


def _reference_model(backbone: str, ours: nn.Module) -> nn.Module:
    """torchvision's network with the head, and all weights, of ours."""
    import torchvision

    model = torchvision.models.get_model(backbone)
    model.fc = copy.deepcopy(ours.head)
    model.load_state_dict(ours.backbone.state_dict(), strict=False)
    return model


def _require_same(ours: nn.Module, reference: nn.Module, data: _Data) -> None:
    import torch

    for model in (ours, reference):
        model.eval()
    with torch.inference_mode():
        one = ours(**ours.data_preprocessor(data.batch()), mode="tensor")
        other = reference(data.normalised())
    if not torch.allclose(one, other, atol=TOLERANCE * float(other.abs().max())):
        raise DataError("the two networks differ on the same weights: their times cannot be compared")


def _autocast(data: _Data, precision: torch.dtype) -> torch.autocast:
    import torch

    return torch.autocast(data.device.type, precision, enabled=precision is not torch.float32)


def _our_inference(model: nn.Module, data: _Data, precision: torch.dtype) -> Step:
    import torch

    def step() -> None:
        model.eval()
        with torch.inference_mode(), _autocast(data, precision):
            model.test_step(data.batch())

    return step


def _reference_inference(model: nn.Module, data: _Data, precision: torch.dtype) -> Step:
    import torch

    def step() -> None:
        model.eval()
        with torch.inference_mode(), _autocast(data, precision):
            model(data.normalised()).float().sigmoid()

    return step


def _our_train_step(model: nn.Module, data: _Data, precision: torch.dtype) -> Step:
    import torch
    from mmengine.optim import OptimWrapper

    from covidmm.engine.optimization import MixedPrecisionOptimWrapper

    wrapper = OptimWrapper if precision is torch.float32 else MixedPrecisionOptimWrapper
    optimizer = wrapper(optimizer=_sgd(model))

    def step() -> None:
        model.train()
        model.train_step(data.batch(), optimizer)

    return step


def _reference_train_step(model: nn.Module, data: _Data, precision: torch.dtype) -> Step:
    import torch

    optimizer, criterion = _sgd(model), torch.nn.BCEWithLogitsLoss()
    targets = data.targets.to(data.device)
    scaler = torch.amp.GradScaler(data.device.type, enabled=precision is torch.float16)

    def step() -> None:
        model.train()
        with _autocast(data, precision):
            loss = criterion(model(data.normalised()), targets)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    return step


def _sgd(model: nn.Module) -> torch.optim.SGD:
    import torch

    return torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, nesterov=True)
