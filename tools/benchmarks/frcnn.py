"""The training step of Faster R-CNN beside torchvision's, with the same backbone and pyramid, in one process."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.machine import machine
from benchmarks.timing import Step, time_in_turn
from covidmm.errors import DataError
from covidmm.utils.malloc import NEVER_RELEASE, keep_freed_memory

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

#: What can be timed, by torchvision's name of the backbone, and the config that it is covidmm's counterpart of. The
#: report's has torchvision's anchors, samplers and head; the quick one only its backbone and pyramid.
EXPERIMENTS = {"resnext101_32x8d": "configs/frcnn_x101_siim.py", "resnet18": "configs/small/frcnn_r18_siim.py"}
#: Both must give the same pyramid on the same weights; float32 sums in another order differ by less.
TOLERANCE = 1e-3
#: Boxes of one image, as shares of its side; two lungs.
BOXES = ((0.1, 0.2, 0.4, 0.8), (0.6, 0.25, 0.9, 0.75))


@dataclass(frozen=True)
class Timing:
    """covidmm against torchvision in one precision. Seconds are medians; ``ratio`` below 1: covidmm is faster."""

    precision: str
    ratio: float
    seconds: float
    reference_seconds: float


def benchmark(
    backbone: str = "resnext101_32x8d",
    pixels: int = 512,
    batch: int = 2,
    repeats: int = 5,
    precisions: tuple[str, ...] = ("float32", "mixed"),
) -> dict[str, Any]:
    """Time a training step of a config's Faster R-CNN and of torchvision's, in turn.

    Both start from the same uint8 images and end with an SGD step on the same trainable layers; for the report's
    backbone, anchors, samplers and limits of proposals are the same numbers. Mixed precision is float16 with loss
    scaling on CUDA, bfloat16 on a CPU.

    Args:
        backbone: one of :data:`EXPERIMENTS`.
        pixels: side of the square images.
        batch: images per step.
        repeats: timed runs of each, see :func:`~benchmarks.timing.time_in_turn`.
        precisions: ``float32``, ``mixed``.

    Returns:
        The figures and the machine, ready for JSON; ``timings`` holds :class:`Timing` as dicts, ``speedup`` is
        covidmm's float32 seconds over its mixed-precision seconds where both were timed.

    Raises:
        DataError: the two pyramids differ on the same weights, so a ratio would mean nothing.
    """
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    keep_freed_memory(NEVER_RELEASE)  # as training does; both sides gain
    ours = _our_model(backbone).to(device)
    reference = _reference_model(backbone, ours, pixels).to(device)
    images = torch.randint(256, (batch, 3, pixels, pixels), dtype=torch.uint8, generator=_seeded())
    _require_same(ours, reference, images.to(device))
    timings = {}
    for name in precisions:
        half = torch.float16 if device.type == "cuda" else torch.bfloat16
        precision = torch.float32 if name == "float32" else half
        steps = _our_step(ours, images, precision), _reference_step(reference, images.to(device), precision)
        taken, reference_taken, ratio = time_in_turn(*steps, repeats, device.type == "cuda")
        shown = str(precision).removeprefix("torch.")
        timings[name] = Timing(shown, ratio, taken, reference_taken)
    both = "float32" in timings and "mixed" in timings
    return {
        "benchmark": "frcnn",
        "backbone": backbone,
        "pixels": pixels,
        "batch": batch,
        "repeats": repeats,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "timings": [asdict(one) for one in timings.values()],
        "speedup": timings["float32"].seconds / timings["mixed"].seconds if both else None,
        "machine": machine("torch", "torchvision", "onedl-mmdetection", "onedl-mmengine"),
    }


def format_report(report: dict[str, Any]) -> str:
    """A table for people, ratio first."""
    lines = [f"{'ratio':>6} {'train step':<10} {'covidmm s':>10} {'torchvision s':>14}"]
    for one in report["timings"]:
        times = f"{one['seconds']:>10.3f} {one['reference_seconds']:>14.3f}"
        lines.append(f"{one['ratio']:>6.3f} {one['precision']:<10} {times}")
    if report["speedup"] is not None:
        lines.append(f"mixed precision is faster than float32 by: {report['speedup']:.2f}")
    return "\n".join(lines)


def _seeded() -> torch.Generator:
    import torch

    return torch.Generator().manual_seed(0)


def _our_model(backbone: str) -> nn.Module:
    from mmdet.registry import MODELS
    from mmengine.registry import init_default_scope

    from covidmm.engine.config import load_config

    config = load_config(Path(__file__).parents[2] / EXPERIMENTS[backbone])
    init_default_scope("mmdet")
    return MODELS.build(config.model)  # initialised at random: weights do not change the time


def _reference_model(backbone: str, ours: nn.Module, pixels: int) -> nn.Module:
    """torchvision's network; weights and trainable layers of backbone and pyramid are those of ours."""
    import torchvision
    from torch import nn
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.backbone_utils import BackboneWithFPN

    network = torchvision.models.get_model(backbone, norm_layer=nn.BatchNorm2d)
    channels = [block.conv.in_channels for block in ours.neck.lateral_convs]
    stages = {f"layer{number}": str(number - 1) for number in range(1, 5)}
    body = BackboneWithFPN(network, stages, channels, ours.neck.out_channels)
    state = {f"body.{name}": value for name, value in ours.backbone.state_dict().items()}
    for level in range(4):
        for part, blocks in (("inner_blocks", ours.neck.lateral_convs), ("layer_blocks", ours.neck.fpn_convs)):
            for name, value in blocks[level].conv.state_dict().items():
                state[f"fpn.{part}.{level}.0.{name}"] = value
    body.load_state_dict(state)
    trained = {f"body.{name}": value.requires_grad for name, value in ours.backbone.named_parameters()}
    for name, value in body.named_parameters():
        value.requires_grad_(trained.get(name, True))
    return FasterRCNN(body, num_classes=2, min_size=pixels, max_size=pixels)


def _normalised(images: Tensor) -> list[Tensor]:
    """BGR uint8 to what torchvision's own transform takes: RGB in 0..1."""
    return list(images[:, [2, 1, 0]].float() / 255)


def _require_same(ours: nn.Module, reference: nn.Module, images: Tensor) -> None:
    import torch

    for model in (ours, reference):
        model.eval()
    with torch.inference_mode():
        one = ours.extract_feat(ours.data_preprocessor({"inputs": list(images)})["inputs"])
        other = reference.backbone(reference.transform(_normalised(images))[0].tensors).values()
    for level, expected in zip(one, other, strict=True):
        if not torch.allclose(level, expected, atol=TOLERANCE * float(expected.abs().max())):
            raise DataError("the two pyramids differ on the same weights: their times cannot be compared")


def _boxes(pixels: int) -> Tensor:
    import torch

    return torch.tensor(BOXES) * pixels


def _our_step(model: nn.Module, images: Tensor, precision: torch.dtype) -> Step:
    import torch
    from mmdet.structures import DetDataSample
    from mmengine.optim import OptimWrapper
    from mmengine.structures import InstanceData

    from covidmm.engine.optimization import MixedPrecisionOptimWrapper

    wrapper = OptimWrapper if precision is torch.float32 else MixedPrecisionOptimWrapper
    optimizer = wrapper(optimizer=_sgd(model))
    shape = tuple(images.shape[2:])

    def step() -> None:
        samples = []
        for _ in images:
            boxes = _boxes(shape[0])
            sample = DetDataSample(metainfo={"img_shape": shape, "ori_shape": shape, "scale_factor": (1, 1)})
            sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.zeros(len(boxes), dtype=torch.long))
            sample.ignored_instances = InstanceData(bboxes=boxes[:0], labels=torch.zeros(0, dtype=torch.long))
            samples.append(sample)
        model.train()
        model.train_step({"inputs": list(images), "data_samples": samples}, optimizer)

    return step


def _reference_step(model: nn.Module, images: Tensor, precision: torch.dtype) -> Step:
    import torch

    optimizer = _sgd(model)
    scaler = torch.amp.GradScaler(images.device.type, enabled=precision is torch.float16)

    def step() -> None:
        boxes = _boxes(images.shape[2]).to(images.device)
        labels = torch.ones(len(boxes), dtype=torch.long, device=images.device)
        targets = [{"boxes": boxes.clone(), "labels": labels} for _ in images]
        model.train()
        with torch.autocast(images.device.type, precision, enabled=precision is not torch.float32):
            loss = sum(model(_normalised(images), targets).values())
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    return step


def _sgd(model: nn.Module) -> torch.optim.SGD:
    import torch

    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.SGD(trained, lr=1e-3, momentum=0.9, nesterov=True)
