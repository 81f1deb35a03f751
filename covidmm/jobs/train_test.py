"""Train and evaluate models from a config."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import barrier
from mmengine.runner import Runner

from covidmm.engine.build_errors import build_errors_named
from covidmm.engine.checked_runner import CheckedRunner
from covidmm.engine.checkpointing import checkpoints_in, latest_checkpoint, trained_file
from covidmm.engine.config import load_config
from covidmm.engine.console import ConsoleHook
from covidmm.engine.data_classes import follow_checkpoint
from covidmm.engine.launch import launched, share_out
from covidmm.engine.optimization import for_this_machine
from covidmm.engine.predicting import PREDICTING, predicting_sha256
from covidmm.engine.preflight import leaves
from covidmm.engine.training_images import names_in, require_unseen
from covidmm.errors import CheckpointError, ClusterError
from covidmm.jobs.evaluated import Evaluation, report_boxes, report_labels, report_nothing, report_others
from covidmm.jobs.job_inputs import (
    check_annotation_files,
    metric_type,
    own_metric,
    require_annotations,
    require_own_metric,
    require_parts,
    split_results,
)
from covidmm.models.checkpoints import (
    STORE_SCHEME,
    checkpoint_file,
    stored_classes,
    stored_provenance,
    stored_val_metrics,
)
from covidmm.utils.distributed import is_first
from covidmm.utils.fileio import require_output
from covidmm.utils.lazy_imports import imports_that_stay
from covidmm.utils.malloc import NEVER_RELEASE, keep_freed_memory
from covidmm.utils.packaged_configs import config_path
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
        config: config file, or one of a package as ``covidmm::NAME.py``.
        work_dir: where checkpoints and logs go; ``work_dirs/<config name>`` by default.
        resume: True to resume from the last finished epoch in ``work_dir``, or a checkpoint file to resume from.
        amp: mixed precision, float16 on CUDA and bfloat16 on a CPU with units for it.
        options: overrides, each ``dotted.key=value``, as ``--cfg-options`` gives them.
        launcher: ``none``, ``pytorch`` or ``slurm``.

    Returns:
        The work dir.

    Raises:
        CovidmmError: a bad config, data that does not agree with it, or a checkpoint that does not fit.
        KeyboardInterrupt: ctrl-C or SIGTERM, with how to resume; the last finished epoch is on disk.
    """
    config = config_path(config)
    cfg = _load(config, work_dir, options, launcher)
    require_parts(cfg, config, ("model", "train_dataloader", "train_cfg", "optim_wrapper"), "a training")
    folder = Path(cfg.work_dir)
    if amp:
        cfg.optim_wrapper.type = "MixedPrecisionOptimWrapper"
    for_this_machine(cfg.optim_wrapper)
    if resume:
        cfg.resume = True
        cfg.load_from = str(latest_checkpoint(folder)) if resume is True else str(resume)
    start = str(cfg.get("load_from") or "")
    local = start.startswith(STORE_SCHEME) or "://" not in start
    if start and local and not checkpoint_file(start).is_file():
        raise CheckpointError(f"{start}: no such checkpoint to start from")
    require_annotations(cfg, ("train", "val") if cfg.get("val_cfg") else ("train",))
    try:
        with stops_restored(), launched(launcher), build_errors_named():
            if not resume and is_first():
                _set_aside(folder)
            barrier()
            keep_freed_memory(NEVER_RELEASE)
            runner = _runner(cfg, trains=True)
            runner.register_hook(ConsoleHook())
            runner.train()
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
    allow_training_images: bool = False,
) -> dict[str, Any]:
    """Evaluate a checkpoint on a config's test split, print the table and write ``metrics.json``.

    Precision, recall and F1 are taken at the confidence threshold that the checkpoint's own validation chose. Where
    that predicted in another way, such as without test-time augmentation, the config's validation images are predicted
    to choose one.

    Args:
        config: config file.
        checkpoint: checkpoint file, or a work dir, whose best checkpoint is taken.
        work_dir: where ``metrics.json`` and logs go; as :func:`train`.
        out: file for the predictions, a COCO results list in pixels of the prepared images.
        show_dir: folder for one picture per image, with truth and predictions, and ``grid.png`` with twelve.
        options: as :func:`train`.
        launcher: as :func:`train`.
        allow_training_images: score images that trained the checkpoint, too, and say so.

    Returns:
        The metrics, by name.

    Raises:
        CovidmmError: a bad config or data, or a checkpoint that is missing, unsafe or does not fit.
    """
    config = config_path(config)
    cfg = _load(config, work_dir, options, launcher)
    require_parts(cfg, config, ("model", "test_dataloader", "test_evaluator", "test_cfg"), "a test")
    for option, value in (("--out", out), ("--show-dir", show_dir)):
        if value:
            require_own_metric(cfg, option)
    # before this run's files and the checkpoint's threshold go into it: as its training wrote into the checkpoint
    resolved = resolved_sha256(cfg.to_dict())
    for option, path, folder in (("--out", out, False), ("--show-dir", show_dir, True), ("--work-dir", work_dir, True)):
        if path:
            require_output(path, option, folder)
    weights = trained_file(checkpoint)
    stored = stored_val_metrics(weights)
    follow_checkpoint(cfg, stored_classes(weights))
    tested = cfg.test_dataloader.dataset
    where = str(Path(tested.get("data_root") or "", tested.get("ann_file") or ""))
    require_unseen({str(weights): weights}, names_in(tested) or (), where, allow_training_images)
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
        if run.metric is not None and metric_type(run.metric) == "DetectionMetric":
            _choose_threshold(run, allow_training_images)
        runner = _runner(cfg, trains=False)
        for folder in (run.predictions.parent, *([Path(show_dir)] if show_dir else [])):
            folder.mkdir(parents=True, exist_ok=True)  # one that cannot be made is told before the test
        started = time.monotonic()
        found, others = split_results(runner.test(), run.metric)
        run.seconds = time.monotonic() - started
        dataset = runner.test_dataloader.dataset
        run.classes = dataset.metainfo.get("classes")
        run.files = _images(dataset) if show_dir or report is report_boxes else {}
    if is_first():
        report(run, found, show_dir)
        report_others(run, others)
        print(f"metrics: {run.metrics}")
    return found | others


def _prepare_boxes(run: Evaluation, stored: dict[str, float]) -> None:
    thresholds = {} if run.metric.get("thresholds") is None else dict(run.metric.thresholds)
    run.metric.update(
        outfile=str(run.predictions), threshold=_threshold_in(stored), thresholds=_thresholds_in(stored) | thresholds
    )
    if run.metric.threshold is not None:
        run.threshold_source = "validation"


def _threshold_in(found: Mapping[str, float]) -> float | None:
    """What a validation chose; one that found nothing chose nothing."""
    return found.get("detection/threshold") if found.get("detection/best_f1") else None


def _thresholds_in(found: Mapping[str, float]) -> dict[str, float]:
    """By class, what a validation of several classes chose."""
    first = "detection/best_f1_threshold_"
    names = [key.removeprefix(first) for key in found if key.startswith(first)]
    return {name: found[f"detection/threshold_{name}"] for name in names if found[f"detection/best_f1_{name}"]}


def _choose_threshold(run: Evaluation, allow_training_images: bool) -> None:
    """Choose the threshold again where the checkpoint's own validation predicted in another way.

    That is on the validation images of the config, predicted as the test images are; where there are none, the
    stored threshold is taken, and its source says for what it was chosen.
    """
    cfg = run.cfg
    chosen_for = stored_provenance(run.weights).get(PREDICTING)
    augmented = bool(cfg.get("test_time_augmentation"))
    if not augmented and chosen_for in (None, predicting_sha256(cfg, cfg.test_dataloader.dataset.pipeline)):
        return
    how = "test-time augmentation" if augmented else "this test_cfg and test pipeline"
    validation = (cfg.get("val_dataloader") or {}).get("dataset", {})
    names = names_in(validation) if "pipeline" in validation else None
    metric = own_metric(cfg.get("val_evaluator") or ())
    if names is None or metric is None or metric_type(metric) != metric_type(run.metric):
        if run.metric.threshold is not None:
            run.threshold_source = f"validation without {how}: none was chosen for it"
        return
    where = Path(validation.get("data_root") or "", validation.ann_file)
    require_unseen({str(run.weights): run.weights}, names, str(where), allow_training_images)
    if is_first():
        print(f"threshold: the checkpoint's was chosen without {how}; choosing one on the images of {where}")
    own = deepcopy(cfg)
    own.experiment_name = "threshold"  # MMEngine takes runs of one name that begin in the same second for one
    own.test_dataloader.dataset = {**deepcopy(validation), "pipeline": cfg.test_dataloader.dataset.pipeline}
    own.test_evaluator = {**metric, "threshold": None, "thresholds": None, "outfile": None}
    found = _runner(own, trains=False).test()
    run.metric.update(threshold=_threshold_in(found), thresholds=_thresholds_in(found))
    run.threshold_source = f"validation, predicted with {how}"
    if run.metric.threshold is None:
        run.threshold_source = Evaluation.threshold_source


def _prepare_labels(run: Evaluation, stored: dict[str, float]) -> None:
    evaluator = run.metric
    evaluator.update(outfile=str(run.predictions))
    if not evaluator.multi_label:
        # fitted on validation; a checkpoint without one is taken as it is
        evaluator.temperature = stored.get(f"{evaluator.prefix}/temperature", 1.0)


def _images(dataset: Any) -> dict[int, Path]:
    """The files of a data set's images, as its config says where they are."""
    infos = (leaf.get_data_info(index) for leaf in leaves(dataset) for index in range(len(leaf)))
    return {int(info["img_id"]): Path(info["img_path"]) for info in infos}


def _prepare_nothing(run: Evaluation, stored: dict[str, float]) -> None:
    """MMDetection's metrics take no threshold and write no predictions."""


#: What comes before and after a test, by the type of covidmm's metric.
_STEPS: dict[str | None, tuple[Callable[..., None], Callable[..., None]]] = {
    "DetectionMetric": (_prepare_boxes, report_boxes),
    "LabelMetric": (_prepare_labels, report_labels),
    None: (_prepare_nothing, report_nothing),
}


def _load(config: str | Path, work_dir: Any, options: Sequence[str], launcher: str) -> Config:
    """Load the config of a job, and MMDetection with it."""
    with imports_that_stay():
        cfg = load_config(config, options)
    cfg.launcher = launcher
    cfg.work_dir = str(work_dir or cfg.get("work_dir") or Path("work_dirs") / Path(config).stem)
    return cfg


def _runner(cfg: Config, trains: bool) -> Runner:
    """MMEngine's runner for the processes that have joined."""
    check_annotation_files(cfg, ("train", "val") if trains else ("test",))
    share_out(cfg, trains)
    return CheckedRunner.from_cfg(cfg)


def _how_to_resume(folder: Path) -> str:
    try:
        return f"run the same command with --resume to resume from {latest_checkpoint(folder)}"
    except CheckpointError:
        return "no checkpoint is written yet: run the same command again"


def _set_aside(folder: Path) -> None:
    """Move an earlier run's checkpoints into a folder of their own."""
    earlier = [*checkpoints_in(folder), *folder.glob("best_*.pth")]
    if not earlier:
        return
    number = 1
    while (aside := folder / f"earlier_{number}").exists():
        number += 1
    aside.mkdir()
    for path in earlier:
        path.replace(aside / path.name)
    print(f"{folder}: moved {len(earlier)} checkpoints of an earlier run to {aside}")
