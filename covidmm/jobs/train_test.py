"""Train and evaluate models from a config."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import barrier
from mmengine.runner import Runner

from covidmm.engine.build_errors import build_errors_named
from covidmm.engine.checkpointing import CheckedRunner, latest_checkpoint, stored_val_metrics, trained_file
from covidmm.engine.config import load_config
from covidmm.engine.launch import launched, share_out
from covidmm.errors import CheckpointError, ClusterError
from covidmm.evaluation.metric_tables import format_labels, format_table
from covidmm.evaluation.metrics_file import provenance, write_metrics
from covidmm.jobs.job_inputs import (
    annotation_files,
    metric_type,
    own_metric,
    require_annotations,
    require_own_metric,
    require_parts,
    split_results,
)
from covidmm.utils.distributed import is_first
from covidmm.utils.fileio import json_bytes, write_bytes
from covidmm.utils.lazy_imports import imports_that_stay
from covidmm.utils.malloc import NEVER_RELEASE, keep_freed_memory
from covidmm.utils.provenance import resolved_sha256
from covidmm.utils.signals import stops_restored


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
        resume: True to resume from the last finished epoch in ``work_dir``, or a checkpoint file to resume from.
        amp: mixed precision, float16 on CUDA and bfloat16 on a CPU.
        options: overrides, each ``dotted.key=value``, as ``--cfg-options`` gives them.
        launcher: ``none``, ``pytorch`` or ``slurm``.

    Returns:
        The work dir.

    Raises:
        CovidmmError: a bad config, data that does not agree with it, or a checkpoint that does not fit.
        KeyboardInterrupt: ctrl-C or SIGTERM, with how to resume; the last finished epoch is on disk.
    """
    cfg = _load(config, work_dir, options, launcher)
    require_parts(cfg, config, ("model", "train_dataloader", "train_cfg", "optim_wrapper"), "a training")
    folder = Path(cfg.work_dir)
    if amp:
        cfg.optim_wrapper.type = "MixedPrecisionOptimWrapper"
    if resume:
        cfg.resume = True
        cfg.load_from = str(latest_checkpoint(folder)) if resume is True else str(resume)
    require_annotations(cfg, ("train", "val") if cfg.get("val_cfg") else ("train",))
    try:
        with stops_restored(), launched(launcher), build_errors_named():
            if not resume and is_first():
                _set_aside(folder)
            barrier()
            keep_freed_memory(NEVER_RELEASE)
            _runner(cfg, trains=True).train()
    except (KeyboardInterrupt, ClusterError) as stop:
        cause = f"{stop}; " if isinstance(stop, ClusterError) else ""
        stop.args = (f"{cause}{_how_to_resume(folder)}",)
        raise
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
    cfg = _load(config, work_dir, options, launcher)
    require_parts(cfg, config, ("model", "test_dataloader", "test_evaluator", "test_cfg"), "a test")
    for option, value in (("--out", out), ("--show-dir", show_dir)):
        if value:
            require_own_metric(cfg, option)
    # before this run's files and the checkpoint's threshold go into it: as its training wrote into the checkpoint
    resolved = resolved_sha256(cfg.to_dict())
    weights = trained_file(checkpoint)
    stored = stored_val_metrics(weights)
    predictions = Path(out) if out else Path(cfg.work_dir) / "predictions.json"
    require_annotations(cfg, ("test",))
    run = Evaluation(cfg, str(config), resolved, weights, predictions)
    prepare, report = _STEPS[None if run.metric is None else metric_type(run.metric)]
    prepare(run, stored)
    cfg.load_from = str(weights)
    if cfg.get("test_time_augmentation"):
        cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
        # wraps the model after its checkpoint was loaded
        cfg.custom_hooks = [*(cfg.get("custom_hooks") or ()), {"type": "PrepareTTAHook", "tta_cfg": cfg.tta_model}]
    with launched(launcher), build_errors_named():
        runner = _runner(cfg, trains=False)
        started = time.monotonic()
        found, others = split_results(runner.test(), run.metric)
        run.seconds = time.monotonic() - started
    if is_first():
        report(run, found, show_dir)
        _report_others(run, others)
        print(f"metrics: {run.metrics}")
    return found | others


@dataclass
class Evaluation:
    """One run of :func:`evaluate`."""

    cfg: Config
    config: str
    resolved: str
    weights: Path
    predictions: Path
    seconds: float = 0.0

    @property
    def metric(self) -> Any:
        """covidmm's own metric of the config, None where it has MMDetection's alone."""
        return own_metric(self.cfg.test_evaluator)

    @property
    def name(self) -> str:
        """What the detector is called in tables and in ``metrics.json``."""
        name = self.cfg.get("detector")  # MMDetection's semi-supervised configs call a part of the model so
        kind = self.cfg.model.type
        return name if isinstance(name, str) else str(getattr(kind, "__name__", kind)).lower()

    @property
    def metrics(self) -> Path:
        """The file that collects what was measured."""
        return Path(self.cfg.work_dir) / "metrics.json"

    def write(self, name: str, annotations: Path, **sections: Any) -> None:
        """Add sections, the seconds and the provenance of this run to ``metrics.json``; the last beside predictions."""
        origin = provenance(self.config, self.resolved, self.weights, annotations)
        if self.metric is not None:
            write_bytes(self.predictions.with_suffix(".provenance.json"), json_bytes(origin, indent=2))
        write_metrics(self.metrics, **sections, seconds={f"test_{name}": self.seconds}, provenance={name: origin})


def _prepare_boxes(run: Evaluation, stored: dict[str, float]) -> None:
    # a validation that found nothing chose nothing
    threshold = stored["detection/threshold"] if stored.get("detection/best_f1") else None
    run.metric.update(outfile=str(run.predictions), threshold=threshold)


def _report_boxes(run: Evaluation, found: dict[str, Any], show_dir: str | Path | None) -> None:
    chosen = run.metric.threshold is not None
    found["threshold_source"] = "validation" if chosen else "this split, maximising F1 (optimistic)"
    name = run.name
    run.write(name, Path(run.metric.ann_file), detectors={name: found})
    print(f"{found['images']} images, {found['boxes']} boxes; threshold from {found['threshold_source']}")
    print(format_table({name: found}))
    print(f"predictions: {run.predictions}")
    if show_dir:
        from covidmm.reports.pictures import draw_show_dir  # matplotlib takes a second, which a training saves

        draw_show_dir(show_dir, run.cfg.test_dataloader.dataset, run.predictions, found["threshold"], name)
        print(f"pictures: {show_dir}")


def _prepare_labels(run: Evaluation, stored: dict[str, float]) -> None:
    evaluator = run.metric
    evaluator.update(outfile=str(run.predictions))
    if not evaluator.multi_label:
        # fitted on validation; a checkpoint without one is taken as it is
        evaluator.temperature = stored.get(f"{evaluator.prefix}/temperature", 1.0)


def _report_labels(run: Evaluation, found: dict[str, Any], show_dir: str | Path | None) -> None:
    details = json.loads(run.predictions.read_text())
    del details["predictions"]
    dataset = run.cfg.test_dataloader.dataset
    name = run.metric.prefix
    run.write(name, Path(dataset.data_root, dataset.ann_file), **{name: details})
    print(f"{details['cases']} {'images' if run.metric.multi_label else 'studies'}")
    print(format_labels(details))
    print(f"predictions: {run.predictions}")
    if show_dir:
        from covidmm.reports.attention_pictures import draw_labels  # as above

        draw_labels(Path(show_dir), details, run.cfg, run.weights)
        print(f"pictures: {show_dir}")


def _prepare_nothing(run: Evaluation, stored: dict[str, float]) -> None:
    """MMDetection's metrics take no threshold and write no predictions."""


def _report_nothing(run: Evaluation, found: dict[str, Any], show_dir: str | Path | None) -> None:
    print("no DetectionMetric or LabelMetric in test_evaluator: no predictions are kept")


#: What comes before and after a test, by the type of covidmm's metric.
_STEPS: dict[str | None, tuple[Callable[..., None], Callable[..., None]]] = {
    "DetectionMetric": (_prepare_boxes, _report_boxes),
    "LabelMetric": (_prepare_labels, _report_labels),
    None: (_prepare_nothing, _report_nothing),
}


def _report_others(run: Evaluation, found: dict[str, Any]) -> None:
    """Print and keep what MMDetection's metrics found."""
    if not found:
        return
    for name, value in found.items():
        print(f"{name}: {value:.4f}" if isinstance(value, float) else f"{name}: {value}")
    files = [path for _, path in annotation_files(run.cfg.test_dataloader, "test_dataloader")]
    files += [path for _, path in annotation_files(run.cfg.test_evaluator, "test_evaluator")]
    if files:
        run.write(run.name, files[0], evaluators={run.name: found})
    else:
        write_metrics(run.metrics, evaluators={run.name: found}, seconds={f"test_{run.name}": run.seconds})


def _load(config: str | Path, work_dir: Any, options: Sequence[str], launcher: str) -> Config:
    """Load the config of a job, and MMDetection with it."""
    with imports_that_stay():
        cfg = load_config(config, options)
    cfg.launcher = launcher
    cfg.work_dir = str(work_dir or cfg.get("work_dir") or Path("work_dirs") / Path(config).stem)
    return cfg


def _runner(cfg: Config, trains: bool) -> Runner:
    """MMEngine's runner for the processes that have joined."""
    share_out(cfg, trains)
    return CheckedRunner.from_cfg(cfg)


def _how_to_resume(folder: Path) -> str:
    try:
        return f"run the same command with --resume to resume from {latest_checkpoint(folder)}"
    except CheckpointError:
        return "no epoch is finished yet: run the same command again"


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
