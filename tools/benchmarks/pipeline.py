"""How fast one loading process feeds each training, how fast its model consumes, and how long it waits."""

from __future__ import annotations

import copy
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import torch
from mmengine.config import Config
from mmengine.dataset import COLLATE_FUNCTIONS, pseudo_collate
from mmengine.logging import MessageHub
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS
from torch.utils.data import DataLoader, RandomSampler

from benchmarks.networks import ROOT, build_model, facts
from benchmarks.phantoms import found_by_configs, prepare_phantoms
from covidmm.engine.config import load_config
from covidmm.utils.malloc import NEVER_RELEASE, keep_freed_memory

DISTRIBUTIONS = ("torch", "onedl-mmcv", "opencv-python-headless")
#: One config of each pair of pipeline and model.
CONFIGS = tuple(
    str(ROOT / f"configs/{name}.py")
    for name in (
        "frcnn_x101_siim",
        "yolov5l_rsna",
        "yolov5l_siim",
        "study_x101_siim",
        "x101_nih",
        "small/frcnn_r18_siim",
        "small/retinanet_r18_siim",
        "small/yolov5n_siim",
        "small/study_r18_siim",
        "small/r18_nih",
    )
)
#: Two of each five are held out.
STUDIES = 20
#: Longer side of the prepared images, pixels: what `make demo` prepares, and the default of prepare.
SMALL, REPORT = 512, 1024
#: Images of a training step at most, but for the configs in ``small/``, which keep their own: those of the report would
#: not fit into memory, and consume no faster per image on a CPU.
REPORT_BATCH = 2
#: Seconds that a training is watched for how long it waits, and iterations that it makes at most in them. Chosen here:
#: a wait is a few milliseconds, and one of them more or less must not decide.
WATCHED, ITERATIONS = 5.0, 1000


@dataclass(frozen=True)
class Feed:
    """One config. ``ratio``: one loading process feeds so many times what the training step consumes.

    ``waiting`` is the share of its iterations in which a training with that process beside it waits for data, after
    the first iteration.
    """

    config: str
    ratio: float
    images_per_second: float
    step_images_per_second: float
    waiting: float


def benchmark(configs: Sequence[str] = CONFIGS, images: int = 20, repeats: int = 5) -> dict[str, Any]:
    """Time each training pipeline in one process, the training step that it feeds, and both at once.

    Phantoms of 1024 pixels, of 512 for the configs in ``small/``, stand for every data set. The step is that of the
    config: preprocessor, forward pass, losses, backward pass, optimizer, in float32 with all threads, on random
    weights.

    Args:
        configs: of detectors or classifiers.
        images: loaded one after the other in each timed run.
        repeats: timed runs, of which the median, after one to warm up; of a step alone half as many; and the least
            iterations of both at once.

    Returns:
        ``feeds`` holds :class:`Feed` as dicts.

    Raises:
        CovidmmError: a config that cannot be used.
    """
    cv2.setNumThreads(0)  # as in MMEngine's loading processes
    keep_freed_memory(NEVER_RELEASE)  # as training does
    feeds = []
    with tempfile.TemporaryDirectory() as folder:
        prepared: dict[int, Path] = {}
        for path in map(Path, configs):
            small = path.parent.name == "small"
            side = SMALL if small else REPORT
            if side not in prepared:
                prepared[side] = prepare_phantoms(Path(folder, str(side)), STUDIES, side)
            with found_by_configs(prepared[side]):
                cfg = load_config(path)
            own = cfg.train_dataloader.batch_size
            batch = own if small else min(own, REPORT_BATCH)
            loading, step, waiting = _seconds(cfg, batch, images, repeats)
            feeds.append(Feed(path.stem, step / loading, 1 / loading, 1 / step, waiting))
    return {
        "images": images,
        "repeats": repeats,
        **facts(),
        "feeds": [asdict(one) for one in feeds],
    }


def format_report(report: dict[str, Any]) -> str:
    """A table for people, ratio first."""
    lines = [f"{'ratio':>7} {'loaded/s':>9} {'trained/s':>10} {'waiting':>8} config"]
    for one in report["feeds"]:
        figures = f"{one['images_per_second']:>9.1f} {one['step_images_per_second']:>10.2f} {one['waiting']:>8.1%}"
        lines.append(f"{one['ratio']:>7.1f} {figures} {one['config']}")
    return "\n".join([*lines, f"images; one loading process beside training with {report['threads']} threads"])


def _seconds(cfg: Config, batch_size: int, images: int, repeats: int) -> tuple[float, float, float]:
    """Seconds per image of the pipeline and of the training step, and the share of waiting of the two together."""
    torch.manual_seed(0)
    model = build_model(cfg).train()
    MessageHub.get_current_instance().update_info("iter", 0)  # as the runner does; batch augmentations ask
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    loading = _median(lambda: [dataset[index % len(dataset)] for index in range(images)], repeats) / images
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    collate = cfg.train_dataloader.get("collate_fn")
    collate = COLLATE_FUNCTIONS.get(collate.type) if collate else pseudo_collate
    batch = collate([dataset[index % len(dataset)] for index in range(batch_size)])
    # a preprocessor may change what it is given
    step = _median(lambda: model.train_step(copy.deepcopy(batch), optimizer), max(1, repeats // 2)) / batch_size
    drawn = RandomSampler(dataset, replacement=True, num_samples=batch_size * ITERATIONS)
    loader = DataLoader(dataset, batch_size, sampler=drawn, num_workers=1, collate_fn=collate)
    return loading, step, _waiting(loader, lambda data: model.train_step(data, optimizer), repeats)


def _waiting(loader: Iterable[Any], step: Callable[[Any], Any], repeats: int) -> float:
    """The share of some iterations, as many as take :data:`WATCHED` seconds and no fewer than ``repeats``, that passes
    before their data are there; the first one is not counted.
    """
    batches = iter(loader)
    step(next(batches))
    waited = total = 0.0
    watched = 0
    while watched < repeats or (total < WATCHED and watched < ITERATIONS - 1):
        start = time.perf_counter()
        data = next(batches)
        arrived = time.perf_counter()
        step(data)
        waited += arrived - start
        total += time.perf_counter() - start
        watched += 1
    return waited / total


def _median(call: Callable[[], Any], repeats: int) -> float:
    call()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)
