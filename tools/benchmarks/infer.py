"""Detectors on every backend and precision that runs here, in turn, in one process."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmarks.networks import ROOT, build_model, facts
from covidmm.ensembles.ensemble_config import PRECISIONS, Backend, Member
from covidmm.inference.backends import exact_precisions
from covidmm.inference.detector import Detector
from covidmm.inference.export import phantoms, to_onnx

DISTRIBUTIONS = ("torch", *(name for name in ("onnxruntime", "openvino") if find_spec(name)))
#: What is timed by default: the detectors that two cores can train.
CONFIGS = tuple(
    str(ROOT / "configs/small" / f"{name}.py") for name in ("frcnn_r18_siim", "retinanet_r18_siim", "yolov5n_siim")
)


@dataclass(frozen=True)
class Timing:
    """One detector on one backend; ``ratio`` is its time over PyTorch's in float32, below 1 is faster."""

    config: str
    backend: str
    precision: str
    ratio: float
    seconds_per_image: float


def benchmark(configs: Sequence[str] = CONFIGS, batch: int = 4, repeats: int = 5) -> dict[str, Any]:
    """Time whole calls of detectors: the pipeline, the network and the post-processing of images in memory.

    Weights are random, so nothing needs to be trained. Every detector finds as much as its thresholds let through,
    which is more than a trained one finds. Backends that are not installed are left out.

    Args:
        configs: of detectors.
        batch: images per call, phantoms.
        repeats: timed calls of each backend, after one to warm up; they take turns.

    Returns:
        ``timings`` holds :class:`Timing` as dicts.

    Raises:
        CovidmmError: a config that cannot be used or exported.
    """
    images = phantoms(batch)
    timings = []
    for config in configs:
        medians = _in_turn(dict(_calls(config, images)), repeats)
        base = medians["torch", "float32"]
        timings += [Timing(Path(config).stem, *which, taken / base, taken / batch) for which, taken in medians.items()]
    return {
        "batch": batch,
        "repeats": repeats,
        **facts(),
        "timings": [asdict(one) for one in timings],
    }


def format_report(report: dict[str, Any]) -> str:
    """A table for people, ratio first."""
    lines = [f"{'ratio':>6} {'s/image':>8} {'backend':<12} {'precision':<9} config"]
    for one in report["timings"]:
        figures = f"{one['ratio']:>6.3f} {one['seconds_per_image']:>8.4f}"
        lines.append(f"{figures} {one['backend']:<12} {one['precision']:<9} {one['config']}")
    return "\n".join([*lines, f"batch {report['batch']}, {report['threads']} threads, ratio to PyTorch float32"])


def _calls(config: str, images: Sequence[Any]) -> Iterator[tuple[tuple[str, str], Callable[[], Any]]]:
    """By backend and precision, one call of the detector."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, exported = Path(folder) / "random.pth", Path(folder) / "random.onnx"
        torch.manual_seed(0)
        torch.save({"state_dict": build_model(config).state_dict()}, checkpoint)
        precisions = {"torch": PRECISIONS["torch"]}
        engines = [name for name in PRECISIONS if name != "torch" and find_spec(name)]
        if engines:
            content, metadata = to_onnx(config, str(checkpoint))
            exported.write_bytes(content)
            precisions |= {engine: exact_precisions(engine, metadata) for engine in engines}
        for engine, known in precisions.items():
            for precision in known:
                if precision == "auto" or (precision == "float16" and not torch.cuda.is_available()):
                    continue
                backend = Backend(engine, None if engine == "torch" else str(exported), precision)
                member = Member(config, str(checkpoint), test_time_augmentation=False, backend=backend)
                detector = Detector(member, Path(config).stem)
                yield (engine, precision), lambda detector=detector: detector(images)


def _in_turn(calls: dict[tuple[str, str], Callable[[], Any]], repeats: int) -> dict[tuple[str, str], float]:
    """Median seconds of calls that take turns, so that a busy moment of the machine meets all of them."""
    taken: dict[tuple[str, str], list[float]] = {which: [] for which in calls}
    for turn in range(repeats + 1):
        for which, call in calls.items():
            start = time.perf_counter()
            call()  # its boxes arrive on the CPU: a GPU has finished
            if turn:
                taken[which].append(time.perf_counter() - start)
    return {which: statistics.median(times) for which, times in taken.items()}
