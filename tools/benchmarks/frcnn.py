"""The training step of Faster R-CNN beside torchvision's, with the same backbone and pyramid, in one process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torchvision
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import BackboneWithFPN

from benchmarks.networks import (
    DEVICE,
    MIXED,
    ROOT,
    build_model,
    facts,
    mmengine_step,
    name_of,
    plain_step,
    random_images,
    require_same,
)
from benchmarks.timing import Step, time_in_turn
from covidmm.utils.malloc import NEVER_RELEASE, keep_freed_memory

DISTRIBUTIONS = ("torch", "torchvision", "onedl-mmdetection", "onedl-mmengine")
#: What can be timed, by torchvision's name of the backbone, and the config that it is covidmm's counterpart of. The
#: report's has torchvision's anchors, samplers and head; the quick one only its backbone and pyramid.
EXPERIMENTS = {
    "resnext101_32x8d": ROOT / "configs/frcnn_x101_siim.py",
    "resnet18": ROOT / "configs/small/frcnn_r18_siim.py",
}
#: Boxes of one image, as shares of its side; two lungs.
BOXES = ((0.1, 0.2, 0.4, 0.8), (0.6, 0.25, 0.9, 0.75))


def benchmark(
    backbone: str = "resnext101_32x8d",
    pixels: int = 512,
    batch: int = 2,
    repeats: int = 5,
    precisions: Sequence[str] = ("float32", "mixed"),
) -> dict[str, Any]:
    """Time a training step of a config's Faster R-CNN and of torchvision's, in turn.

    Both start from the same uint8 images and end with an SGD step on the same trainable layers; for the report's
    backbone, anchors, samplers and limits of proposals are the same numbers.

    Args:
        backbone: one of :data:`EXPERIMENTS`.
        pixels: side of the square images.
        batch: images per step.
        repeats: timed runs of each, see :func:`~benchmarks.timing.time_in_turn`.
        precisions: ``float32``, ``mixed`` (:data:`~benchmarks.networks.MIXED`).

    Returns:
        ``timings``: per precision a :class:`~benchmarks.timing.Taken` as a dict; ``speedup``: covidmm's float32
        seconds over its mixed-precision seconds, None unless both were timed.

    Raises:
        DataError: the two pyramids differ on the same weights, so a ratio would mean nothing.
    """
    keep_freed_memory(NEVER_RELEASE)  # as training does; both sides gain
    ours = build_model(EXPERIMENTS[backbone]).to(DEVICE)
    reference = reference_model(backbone, ours, pixels).to(DEVICE)
    images = random_images(batch, pixels)
    require_same_pyramids(ours, reference, images)
    timings = {}
    for name in precisions:
        dtype = torch.float32 if name == "float32" else MIXED
        steps = our_step(ours, images, dtype), reference_step(reference, images, dtype)
        taken = time_in_turn(*steps, repeats, DEVICE.type == "cuda")
        timings[name] = {"precision": name_of(dtype), **taken._asdict()}
    both = {"float32", "mixed"} <= timings.keys()
    return {
        "backbone": backbone,
        "pixels": pixels,
        "batch": batch,
        "repeats": repeats,
        **facts(),
        "timings": list(timings.values()),
        "speedup": timings["float32"]["seconds"] / timings["mixed"]["seconds"] if both else None,
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


def reference_model(backbone: str, ours: nn.Module, pixels: int) -> nn.Module:
    """torchvision's network; weights and trainable layers of backbone and pyramid are those of ours."""
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


@torch.inference_mode()
def require_same_pyramids(ours: nn.Module, reference: nn.Module, images: Tensor) -> None:
    """Raise DataError where the two pyramids differ on the same weights."""
    one = ours.eval().extract_feat(ours.data_preprocessor({"inputs": list(images)})["inputs"])
    other = reference.eval().backbone(reference.transform(_normalised(images))[0].tensors)
    require_same(one, other.values(), "pyramids")


def our_step(model: nn.Module, images: Tensor, dtype: torch.dtype) -> Step:
    """As MMEngine trains."""
    shape = tuple(images.shape[2:])

    def batch() -> dict[str, Any]:
        boxes, samples = torch.tensor(BOXES) * shape[0], []
        for _ in images:
            sample = DetDataSample(metainfo={"img_shape": shape, "ori_shape": shape, "scale_factor": (1, 1)})
            sample.gt_instances = InstanceData(bboxes=boxes.clone(), labels=torch.zeros(len(boxes), dtype=torch.long))
            sample.ignored_instances = InstanceData(bboxes=boxes[:0], labels=torch.zeros(0, dtype=torch.long))
            samples.append(sample)
        return {"inputs": list(images), "data_samples": samples}

    return mmengine_step(model, batch, dtype)


def reference_step(model: nn.Module, images: Tensor, dtype: torch.dtype) -> Step:
    """As a plain loop trains."""
    images = images.to(DEVICE)
    boxes = torch.tensor(BOXES, device=DEVICE) * images.shape[2]
    labels = torch.ones(len(boxes), dtype=torch.long, device=DEVICE)

    def loss() -> Tensor:
        targets = [{"boxes": boxes.clone(), "labels": labels} for _ in images]
        return sum(model(_normalised(images), targets).values())

    return plain_step(model, loss, dtype)


def _normalised(images: Tensor) -> list[Tensor]:
    """BGR uint8 to what torchvision's own transform takes: RGB in 0..1."""
    return list(images.to(DEVICE)[:, [2, 1, 0]].float() / 255)
