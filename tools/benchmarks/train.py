"""The training steps of the report's three models, each beside what its users would otherwise run: one table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks import classifier, frcnn, yolov5
from covidmm.errors import DataError

DISTRIBUTIONS = frcnn.DISTRIBUTIONS
#: The models, each a module of this package.
MODELS = ("frcnn", "yolov5", "classifier")
_STAGES = ("train step",)


def benchmark(models: Sequence[str] = MODELS, backbone: str = "resnext101_32x8d", repeats: int = 5) -> dict[str, Any]:
    """Time the training steps of Faster R-CNN (2 images of 512 px), YOLOv5 (4 of 512 px), the classifier (8 of 224 px).

    Args:
        models: of :data:`MODELS`.
        backbone: of Faster R-CNN and the classifier: ``resnext101_32x8d``, with YOLOv5-l, or the quick ``resnet18``,
            with YOLOv5-n.
        repeats: timed steps of each, see :func:`~benchmarks.timing.time_in_turn`.

    Returns:
        ``timings``: per model and precision the ratio (below 1: covidmm is faster), both seconds and how many times
        faster covidmm is than in float32; ``skipped``: why a model was not timed.
    """
    timings: list[dict[str, Any]] = []
    skipped = {}
    for name in models:
        try:
            timings += _rows(name, _report(name, backbone, repeats)["timings"])
        except DataError as error:
            skipped[name] = str(error)
    return {
        "backbone": backbone,
        "repeats": repeats,
        "timings": timings,
        "skipped": skipped,
    }


def format_report(report: dict[str, Any]) -> str:
    """A table for people, ratio first."""
    lines = [f"{'ratio':>6} {'covidmm s':>10} {'reference s':>12} {'to float32':>10} {'precision':<9} model"]
    for one in report["timings"]:
        times = f"{one['seconds']:>10.3f} {one['reference_seconds']:>12.3f} {one['speedup']:>10.2f}"
        lines.append(f"{one['ratio']:>6.3f} {times} {one['precision']:<9} {one['model']}")
    return "\n".join([*lines, *(f"not timed: {name}: {why}" for name, why in report["skipped"].items())])


def _report(name: str, backbone: str, repeats: int) -> dict[str, Any]:
    if name == "frcnn":
        return frcnn.benchmark(backbone, repeats=repeats)
    if name == "yolov5":
        size = "l" if backbone == "resnext101_32x8d" else "n"
        return yolov5.benchmark(size, batches=(4,), repeats=repeats, stages=_STAGES)
    return classifier.benchmark(backbone, repeats=repeats, stages=_STAGES)


def _rows(model: str, steps: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "model": model,
            "precision": one.get("precision", "float32"),
            "ratio": one["ratio"],
            "seconds": one["seconds"],
            "reference_seconds": one["reference_seconds"],
            "speedup": steps[0]["seconds"] / one["seconds"],
        }
        for one in steps
    ]
