"""YOLOv5 beside the reference package: the same network, the same threads, one process.

The reference is the distribution ``yolov5`` of the package index (extra ``parity``); it is run, not imported by
anything else here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.machine import machine
from benchmarks.timing import STAGES, Step, time_in_turn
from covidmm.errors import DataError
from covidmm.utils.malloc import NEVER_RELEASE, keep_freed_memory

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Boxes of the timed training step, as shares of the image: what SIIM images have, two lungs' worth.
BOXES = ((0.08, 0.25, 0.42, 0.75), (0.58, 0.30, 0.92, 0.80))
#: The reference's published hyper-parameters that its loss reads; gains are the report's.
REFERENCE_HYPERPARAMETERS = {
    "box": 0.075, "cls": 0.05, "obj": 0.75, "cls_pw": 1.0, "obj_pw": 1.0, "anchor_t": 4.0, "fl_gamma": 0.0,
    "label_smoothing": 0.0,
}  # fmt: skip


@dataclass(frozen=True)
class Timing:
    """covidmm against the reference in one case. Seconds are medians; ``ratio`` below 1 means covidmm is faster."""

    stage: str
    batch: int
    seconds: float
    reference_seconds: float
    ratio: float


def benchmark(
    size: str = "l",
    pixels: int = 512,
    batches: tuple[int, ...] = (1, 8),
    repeats: int = 5,
    stages: tuple[str, ...] = STAGES,
) -> dict[str, Any]:
    """Time inference and a training step of both, in turn.

    Inference is the forward pass in evaluation mode to decoded boxes, before NMS. A training step is forward,
    loss, backward and an SGD step. On CUDA both run under float16 autocast, on a CPU in float32.

    Args:
        size: n, s, m, l or x.
        pixels: side of the square input.
        batches: batch sizes.
        repeats: timed runs of each, see :func:`~benchmarks.timing.time_in_turn`.
        stages: of :data:`~benchmarks.timing.STAGES`.

    Returns:
        The figures and the machine, ready for JSON; ``timings`` holds :class:`Timing` as dicts.

    Raises:
        DataError: the reference package is not installed.
    """
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    keep_freed_memory(NEVER_RELEASE)  # as training does; both sides gain
    ours, reference = _our_model(size).to(device), _reference_model(size).to(device)
    counts = [sum(p.numel() for p in model.parameters()) for model in (ours, reference)]
    if counts[0] != counts[1]:
        raise DataError(f"yolov5{size}: {counts[0]} parameters here, {counts[1]} in the reference: not comparable")
    makers, timings = dict(zip(STAGES, (_inference, _train_step), strict=True)), []
    for batch in batches:
        images = torch.rand(batch, 3, pixels, pixels, device=device)
        for stage in stages:
            pair = [makers[stage](model, images) for model in (ours, reference)]
            timings.append(Timing(stage, batch, *time_in_turn(*pair, repeats, device == "cuda")))
    return {
        "benchmark": "yolov5",
        "model": f"yolov5{size}",
        "parameters": counts[0],
        "pixels": pixels,
        "repeats": repeats,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "timings": [asdict(one) for one in timings],
        "machine": machine("torch", "yolov5"),
    }


def format_report(report: dict[str, Any]) -> str:
    """A table for people."""
    lines = [f"{'stage':<11} {'batch':>5} {'covidmm s':>10} {'yolov5 s':>10} {'ratio':>6}"]
    for one in report["timings"]:
        times = f"{one['seconds']:>10.3f} {one['reference_seconds']:>10.3f} {one['ratio']:>6.2f}"
        lines.append(f"{one['stage']:<11} {one['batch']:>5} {times}")
    return "\n".join(lines)


def _our_model(size: str) -> nn.Module:
    from mmdet.registry import MODELS
    from mmengine.registry import init_default_scope

    from covidmm.engine.config import load_config

    deepen, widen = {"n": (0.33, 0.25), "s": (0.33, 0.5), "m": (0.67, 0.75), "l": (1.0, 1.0), "x": (1.33, 1.25)}[size]
    model = load_config(Path(__file__).parents[2] / "configs/yolov5l_siim.py").model
    model.init_cfg = None
    model.backbone.update(deepen_factor=deepen, widen_factor=widen)
    model.neck.update(deepen_factor=deepen, widen_factor=widen)
    model.bbox_head.update(widen_factor=widen)
    init_default_scope("mmdet")
    return MODELS.build(model)


def _reference_model(size: str) -> nn.Module:
    try:
        import yolov5
        from yolov5.models.yolo import Model
    except ImportError as error:
        raise DataError(f"the reference is missing ({error}): pip install 'covidmm[parity]'") from error
    model = Model(str(Path(yolov5.__file__).parent / f"models/yolov5{size}.yaml"), ch=3, nc=1)
    model.hyp = dict(REFERENCE_HYPERPARAMETERS)
    return model


def _inference(model: nn.Module, images: Tensor) -> Step:
    import torch

    def step() -> None:
        model.eval()
        with torch.inference_mode(), torch.autocast(images.device.type, torch.float16, images.is_cuda):
            if not hasattr(model, "bbox_head"):
                model(images)
            else:
                model.bbox_head.decode(model(images, mode="tensor")[0])

    return step


def _train_step(model: nn.Module, images: Tensor) -> Step:
    import torch

    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, nesterov=True)
    scaler = torch.amp.GradScaler(images.device.type, enabled=images.is_cuda)
    loss_of = _our_loss(model, images) if hasattr(model, "bbox_head") else _reference_loss(model, images)

    def step() -> None:
        model.train()
        with torch.autocast(images.device.type, torch.float16, images.is_cuda):
            loss = loss_of()
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    return step


def _our_loss(model: nn.Module, images: Tensor) -> Callable[[], Tensor]:
    import torch
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    height, width = images.shape[-2:]
    boxes = torch.tensor(BOXES, device=images.device) * torch.tensor([width, height] * 2, device=images.device)
    truth = InstanceData(bboxes=boxes, labels=torch.zeros(len(boxes), dtype=torch.long, device=images.device))
    sample = DetDataSample(metainfo={"img_shape": (height, width)}, gt_instances=truth)
    samples = [sample] * len(images)
    return lambda: sum(model(images, samples, mode="loss").values())


def _reference_loss(model: nn.Module, images: Tensor) -> Callable[[], Tensor]:
    import torch
    from yolov5.utils.loss import ComputeLoss

    compute = ComputeLoss(model)
    rows = [
        [image, 0, (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
        for image in range(len(images))
        for x1, y1, x2, y2 in BOXES
    ]
    targets = torch.tensor(rows, device=images.device)

    def loss() -> Tensor:
        total, _ = compute(model(images), targets)
        return total.sum()

    return loss
