"""The jobs behind ``tools/train.py`` and ``tools/test.py``: a config in, a finished run folder out."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmengine.config import Config


def train(
    config: str | Path,
    work_dir: str | Path | None = None,
    resume: str | bool = False,
    amp: bool = False,
    options: Sequence[str] = (),
    launcher: str = "none",
) -> Path:
    """Train the model that a config describes.

    A fresh run in a work dir that holds an earlier run's checkpoints moves those into
    ``earlier_<n>/`` first: nothing is overwritten.

    Args:
        config: config file.
        work_dir: where checkpoints and logs go; ``work_dirs/<config name>`` by default.
        resume: True to continue after the last finished epoch in ``work_dir``, or a checkpoint file.
        amp: mixed precision, float16 on CUDA and bfloat16 on a CPU.
        options: overrides, each ``dotted.key=value``, as ``--cfg-options`` gives them.
        launcher: ``none``, ``pytorch`` or ``slurm``.

    Returns:
        The work dir.

    Raises:
        CovidmmError: a bad config, data that does not agree with it, or a checkpoint that does not fit.
        KeyboardInterrupt: ctrl-C or SIGTERM; the last finished epoch is on disk.
    """
    from mmengine.runner import Runner

    from covidmm.engine.checkpointing import latest_checkpoint

    cfg = _load(config, work_dir, options, launcher)
    folder = Path(cfg.work_dir)
    if amp:
        cfg.optim_wrapper.type = "MixedPrecisionOptimWrapper"
    if resume:
        cfg.resume = True
        cfg.load_from = str(latest_checkpoint(folder)) if resume is True else str(resume)
    else:
        _set_aside(folder)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    Runner.from_cfg(cfg).train()
    return folder


def evaluate(
    config: str | Path,
    checkpoint: str | Path,
    work_dir: str | Path | None = None,
    out: str | Path | None = None,
    show_dir: str | Path | None = None,
    options: Sequence[str] = (),
    launcher: str = "none",
) -> dict[str, Any]:
    """Evaluate a checkpoint on a config's test split, print the table and write ``metrics.json``.

    Precision, recall and F1 are taken at the confidence threshold that the checkpoint's own validation chose.

    Args:
        config: config file.
        checkpoint: checkpoint file, or a work dir, whose best checkpoint is taken.
        work_dir: where ``metrics.json`` and logs go; as :func:`train`.
        out: file for the predictions, a COCO results list in pixels of the prepared images.
        show_dir: folder for one picture per image, with truth and predictions, and ``grid.png`` with twelve.
        options: as :func:`train`.
        launcher: as :func:`train`.

    Returns:
        The metrics, by name.

    Raises:
        CovidmmError: a bad config or data, or a checkpoint that is missing, unsafe or does not fit.
    """
    from mmengine.dist import is_main_process
    from mmengine.runner import Runner

    from covidmm.engine.checkpointing import best_checkpoint, stored_val_metrics
    from covidmm.evaluation.results import format_table, provenance, write_metrics
    from covidmm.reports.grid import draw_show_dir

    cfg = _load(config, work_dir, options, launcher)
    weights = best_checkpoint(Path(checkpoint)) if Path(checkpoint).is_dir() else Path(checkpoint)
    stored = stored_val_metrics(weights)
    # a validation that found nothing chose nothing
    threshold = stored["detection/threshold"] if stored.get("detection/best_f1") else None
    folder = Path(cfg.work_dir)
    predictions = Path(out) if out else folder / "predictions.json"
    cfg.load_from = str(weights)
    cfg.test_evaluator.update(outfile=str(predictions), threshold=threshold)
    if cfg.get("test_time_augmentation"):
        cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
        # wraps the model after its checkpoint was loaded
        cfg.custom_hooks.append({"type": "PrepareTTAHook", "tta_cfg": cfg.tta_model})
    runner = Runner.from_cfg(cfg)
    started = time.monotonic()
    found = {name.removeprefix("detection/"): value for name, value in runner.test().items()}
    found["threshold_source"] = "validation" if threshold is not None else "this split, maximising F1 (optimistic)"
    if not is_main_process():
        return found
    seconds = time.monotonic() - started
    name = cfg.get("detector") or cfg.model.type.lower()
    annotations = Path(cfg.test_evaluator.ann_file)
    write_metrics(
        folder / "metrics.json",
        detectors={name: found},
        seconds={f"test_{name}": seconds},
        provenance={name: provenance(config, weights, annotations)},
    )
    print(f"{found['images']} images, {found['boxes']} boxes; threshold from {found['threshold_source']}")
    print(format_table({name: found}))
    if show_dir:
        draw_show_dir(show_dir, cfg.test_dataloader.dataset, predictions, found["threshold"], name)
        print(f"pictures: {show_dir}")
    print(f"predictions: {predictions}\nmetrics: {folder / 'metrics.json'}")
    return found


def _load(config: str | Path, work_dir: Any, options: Sequence[str], launcher: str) -> Config:
    """Load the config of a job and prepare the process for it."""
    import torch

    from covidmm.engine.config import load_config

    cfg = load_config(config, options)
    cfg.launcher = launcher
    cfg.work_dir = str(work_dir or cfg.get("work_dir") or Path("work_dirs") / Path(config).stem)
    if launcher == "pytorch" and not torch.cuda.is_available():
        # MMEngine's own set-up selects a CUDA device whatever the backend.
        torch.distributed.init_process_group("gloo")
    return cfg


def _set_aside(folder: Path) -> None:
    """Move an earlier run's checkpoints into a folder of their own."""
    earlier = [*folder.glob("epoch_*.pth"), *folder.glob("best_*.pth")]
    if not earlier:
        return
    number = 1
    while (aside := folder / f"earlier_{number}").exists():
        number += 1
    aside.mkdir()
    for path in earlier:
        path.replace(aside / path.name)
    print(f"{folder}: moved {len(earlier)} checkpoints of an earlier run to {aside}")
