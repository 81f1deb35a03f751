"""The report's backbone stage beside a plain PyTorch loop: torchvision's network, the same weights, one process."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torchvision
from mmengine.structures import BaseDataElement
from torch import Tensor, nn
from torchvision.transforms.functional import normalize

from benchmarks.networks import (
    DEVICE,
    MIXED,
    ROOT,
    autocast,
    build_model,
    facts,
    mmengine_step,
    name_of,
    plain_step,
    random_images,
    require_same,
)
from benchmarks.timing import STAGES, Step, time_in_turn
from covidmm.utils.malloc import NEVER_RELEASE, keep_freed_memory

DISTRIBUTIONS = ("torch", "torchvision", "onedl-mmdetection", "onedl-mmengine")
#: What can be timed, by torchvision's name, and the config that it is covidmm's counterpart of.
EXPERIMENTS = {"resnext101_32x8d": ROOT / "configs/x101_nih.py", "resnet18": ROOT / "configs/small/r18_nih.py"}


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
    Both run in float32 and in mixed precision, :data:`~benchmarks.networks.MIXED`.

    Args:
        backbone: one of :data:`EXPERIMENTS`.
        pixels: side of the square images.
        batch: images per step.
        repeats: timed runs of each, see :func:`~benchmarks.timing.time_in_turn`.
        stages: of :data:`~benchmarks.timing.STAGES`.

    Returns:
        ``timings``: per stage and precision a :class:`~benchmarks.timing.Taken` as a dict; ``speedup``: covidmm's
        float32 seconds over its mixed-precision seconds, per stage.

    Raises:
        DataError: the two networks differ on the same weights, so a ratio would mean nothing.
    """
    keep_freed_memory(NEVER_RELEASE)  # as training does; both sides gain
    ours = build_model(EXPERIMENTS[backbone]).to(DEVICE)
    reference = reference_model(backbone, ours).to(DEVICE)
    data = Data(batch, pixels, ours.num_classes)
    require_same_logits(ours, reference, data)
    ways = (_our_inference, _reference_inference), (our_train_step, reference_train_step)
    makers, timings = dict(zip(STAGES, ways, strict=True)), []
    for dtype in (torch.float32, MIXED):
        for stage in stages:
            make_ours, make_reference = makers[stage]
            pair = make_ours(ours, data, dtype), make_reference(reference, data, dtype)
            taken = time_in_turn(*pair, repeats, DEVICE.type == "cuda")
            timings.append({"stage": stage, "precision": name_of(dtype), **taken._asdict()})
    pairs = zip(timings[: len(stages)], timings[len(stages) :], strict=True)
    return {
        "model": backbone,
        "parameters": sum(parameter.numel() for parameter in ours.parameters()),
        "pixels": pixels,
        "batch": batch,
        "repeats": repeats,
        **facts(),
        "timings": timings,
        "speedup": {full["stage"]: full["seconds"] / less["seconds"] for full, less in pairs},
    }


def format_report(report: dict[str, Any]) -> str:
    """A table for people, ratio first."""
    lines = [f"{'ratio':>6} {'stage':<11} {'precision':<9} {'covidmm s':>10} {'plain s':>10}"]
    for one in report["timings"]:
        times = f"{one['seconds']:>10.3f} {one['reference_seconds']:>10.3f}"
        lines.append(f"{one['ratio']:>6.3f} {one['stage']:<11} {one['precision']:<9} {times}")
    faster = ", ".join(f"{stage} {value:.2f}" for stage, value in report["speedup"].items())
    return "\n".join([*lines, f"mixed precision is faster than float32 by: {faster}"])


class Data:
    """One batch: uint8 images as a data loader hands them over, and targets."""

    def __init__(self, batch: int, pixels: int, classes: int) -> None:
        self.images = random_images(batch, pixels)
        self.targets = torch.randint(2, (batch, classes), generator=torch.Generator().manual_seed(1)).float()
        self.samples = [BaseDataElement() for _ in range(batch)]
        for sample, target in zip(self.samples, self.targets, strict=True):
            sample.target = target.numpy()

    def batch(self) -> dict[str, Any]:
        """As MMEngine's collate function gives it."""
        return {"inputs": list(self.images), "data_samples": self.samples}

    def normalised(self) -> Tensor:
        """As the plain loop prepares it: the channels in RGB, ImageNet's mean and deviation."""
        images = self.images.to(DEVICE)[:, [2, 1, 0]].float() / 255
        return normalize(images, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), inplace=True)


def reference_model(backbone: str, ours: nn.Module) -> nn.Module:
    """torchvision's network with the head, and all weights, of ours."""
    model = torchvision.models.get_model(backbone)
    model.fc = copy.deepcopy(ours.head)
    model.load_state_dict(ours.backbone.state_dict(), strict=False)
    return model


@torch.inference_mode()
def require_same_logits(ours: nn.Module, reference: nn.Module, data: Data) -> None:
    """Raise DataError where the two networks differ on the same weights."""
    logits = ours.eval()(**ours.data_preprocessor(data.batch()), mode="tensor")
    require_same([logits], [reference.eval()(data.normalised())], "networks")


def our_train_step(model: nn.Module, data: Data, dtype: torch.dtype) -> Step:
    """As MMEngine trains."""
    return mmengine_step(model, data.batch, dtype)


def reference_train_step(model: nn.Module, data: Data, dtype: torch.dtype) -> Step:
    """As a plain loop trains."""
    criterion, targets = nn.BCEWithLogitsLoss(), data.targets.to(DEVICE)
    return plain_step(model, lambda: criterion(model(data.normalised()), targets), dtype)


def _our_inference(model: nn.Module, data: Data, dtype: torch.dtype) -> Step:
    return _inference(model, lambda: model.test_step(data.batch()), dtype)


def _reference_inference(model: nn.Module, data: Data, dtype: torch.dtype) -> Step:
    return _inference(model, lambda: model(data.normalised()).float().sigmoid(), dtype)


def _inference(model: nn.Module, call: Step, dtype: torch.dtype) -> Step:
    def step() -> None:
        model.eval()
        with torch.inference_mode(), autocast(dtype):
            call()

    return step
