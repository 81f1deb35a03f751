"""YOLOv5 beside the reference package: the same network, the same threads, one process.

The reference is the distribution ``yolov5`` of the package index (extra ``parity``); it is run, not imported by
anything else here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor, nn

from benchmarks.networks import DEVICE, MIXED, ROOT, autocast, build_model, facts, plain_step
from benchmarks.timing import STAGES, Step, time_in_turn
from covidmm.engine.config import load_config
from covidmm.errors import DataError
from covidmm.utils.malloc import NEVER_RELEASE, keep_freed_memory

DISTRIBUTIONS = ("torch", "yolov5")
#: float16 on CUDA; on a CPU the reference has no mixed precision.
_DTYPE = MIXED if DEVICE.type == "cuda" else torch.float32
#: Boxes of the timed training step, as shares of the image: what SIIM images have, two lungs' worth.
BOXES = ((0.08, 0.25, 0.42, 0.75), (0.58, 0.30, 0.92, 0.80))
#: The reference's published hyper-parameters that its loss reads; gains are the report's.
REFERENCE_HYPERPARAMETERS = {
    "box": 0.075, "cls": 0.05, "obj": 0.75, "cls_pw": 1.0, "obj_pw": 1.0, "anchor_t": 4.0, "fl_gamma": 0.0,
    "label_smoothing": 0.0,
}  # fmt: skip


def benchmark(
    size: str = "l",
    pixels: int = 512,
    batches: Sequence[int] = (1, 8),
    repeats: int = 5,
    stages: Sequence[str] = STAGES,
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
        ``timings``: per stage and batch size a :class:`~benchmarks.timing.Taken` as a dict.

    Raises:
        DataError: the reference package is not installed.
    """
    keep_freed_memory(NEVER_RELEASE)  # as training does; both sides gain
    ours, reference = _our_model(size).to(DEVICE), _reference_model(size).to(DEVICE)
    counts = [sum(p.numel() for p in model.parameters()) for model in (ours, reference)]
    if counts[0] != counts[1]:
        raise DataError(f"yolov5{size}: {counts[0]} parameters here, {counts[1]} in the reference: not comparable")
    makers, timings = dict(zip(STAGES, (_inference, _train_step), strict=True)), []
    for batch in batches:
        images = torch.rand(batch, 3, pixels, pixels, device=DEVICE)
        for stage in stages:
            pair = [makers[stage](model, images) for model in (ours, reference)]
            taken = time_in_turn(*pair, repeats, DEVICE.type == "cuda")
            timings.append({"stage": stage, "batch": batch, **taken._asdict()})
    return {
        "model": f"yolov5{size}",
        "parameters": counts[0],
        "pixels": pixels,
        "repeats": repeats,
        **facts(),
        "timings": timings,
    }


def format_report(report: dict[str, Any]) -> str:
    """A table for people."""
    lines = [f"{'stage':<11} {'batch':>5} {'covidmm s':>10} {'yolov5 s':>10} {'ratio':>6}"]
    for one in report["timings"]:
        times = f"{one['seconds']:>10.3f} {one['reference_seconds']:>10.3f} {one['ratio']:>6.2f}"
        lines.append(f"{one['stage']:<11} {one['batch']:>5} {times}")
    return "\n".join(lines)


def _our_model(size: str) -> nn.Module:
    deepen, widen = {"n": (0.33, 0.25), "s": (0.33, 0.5), "m": (0.67, 0.75), "l": (1.0, 1.0), "x": (1.33, 1.25)}[size]
    cfg = load_config(ROOT / "configs/yolov5l_siim.py")
    cfg.model.init_cfg = None
    cfg.model.backbone.update(deepen_factor=deepen, widen_factor=widen)
    cfg.model.neck.update(deepen_factor=deepen, widen_factor=widen)
    cfg.model.bbox_head.update(widen_factor=widen)
    return build_model(cfg)


def _reference_model(size: str) -> nn.Module:
    try:  # an optional extra
        import yolov5
        from yolov5.models.yolo import Model
    except ImportError as error:
        raise DataError(f"the reference is missing ({error}): pip install 'covidmm[parity]'") from error
    model = Model(str(Path(yolov5.__file__).parent / f"models/yolov5{size}.yaml"), ch=3, nc=1)
    model.hyp = dict(REFERENCE_HYPERPARAMETERS)
    return model


def _inference(model: nn.Module, images: Tensor) -> Step:
    def step() -> None:
        model.eval()
        with torch.inference_mode(), autocast(_DTYPE):
            if not hasattr(model, "bbox_head"):
                model(images)
            else:
                model.bbox_head.decode(model(images, mode="tensor")[0])

    return step


def _train_step(model: nn.Module, images: Tensor) -> Step:
    loss_of = _our_loss if hasattr(model, "bbox_head") else _reference_loss
    return plain_step(model, loss_of(model, images), _DTYPE)


def _our_loss(model: nn.Module, images: Tensor) -> Callable[[], Tensor]:
    height, width = images.shape[-2:]
    boxes = torch.tensor(BOXES, device=images.device) * torch.tensor([width, height] * 2, device=images.device)
    truth = InstanceData(bboxes=boxes, labels=torch.zeros(len(boxes), dtype=torch.long, device=images.device))
    sample = DetDataSample(metainfo={"img_shape": (height, width)}, gt_instances=truth)
    return lambda: sum(model(images, [sample] * len(images), mode="loss").values())


def _reference_loss(model: nn.Module, images: Tensor) -> Callable[[], Tensor]:
    from yolov5.utils.loss import ComputeLoss  # an optional extra

    compute = ComputeLoss(model)
    rows = [
        [image, 0, (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
        for image in range(len(images))
        for x1, y1, x2, y2 in BOXES
    ]
    targets = torch.tensor(rows, device=images.device)

    def loss() -> Tensor:
        return compute(model(images), targets)[0].sum()

    return loss
