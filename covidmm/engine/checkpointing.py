"""Write checkpoints that an exact resume needs, and find and load those of a finished training."""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.logging import HistoryBuffer
from mmengine.registry import HOOKS, MODELS, init_default_scope
from mmengine.runner import BaseLoop, IterBasedTrainLoop, Runner
from torch import nn

from covidmm.engine.build_errors import build_errors_named
from covidmm.engine.data_classes import leave_out_other_classes
from covidmm.engine.model_checks import check_ops
from covidmm.engine.plain_values import plain, plain_history
from covidmm.engine.resuming import follow_config
from covidmm.engine.training_images import training_images
from covidmm.engine.training_provenance import training_provenance
from covidmm.errors import CheckpointError, ConfigError
from covidmm.models.checkpoints import (
    TRAINING_IMAGES,
    checkpoint_file,
    coverage,
    read_checkpoint,
    require_coverage,
)
from covidmm.models.pretrained import without_pretraining
from covidmm.models.state_dicts import state_of
from covidmm.utils.fileio import write_bytes
from covidmm.utils.provenance import sha256

_FILE = re.compile(r"(?:epoch|iter)_(\d+)\.pth")


@register_backend("atomic")
class AtomicLocalBackend(LocalBackend):
    """Local files that are written under a temporary name and then renamed, so that none is ever incomplete."""

    def put(self, obj: bytes | BytesIO, filepath: str | Path) -> None:
        """Write ``obj`` to ``filepath``, whole or not at all."""
        target = Path(filepath)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(target, obj.getvalue() if isinstance(obj, BytesIO) else obj, durable=True)


@HOOKS.register_module()
class ResumableCheckpointHook(CheckpointHook):
    """MMEngine's checkpoint hook with what an exact resume needs.

    * An epoch's checkpoint is written *after* its validation, so a run that is killed while it validates
      repeats the epoch instead of losing its validation and its chance to be the best.
    * Files are written whole or not at all, and hold tensors and plain values alone, so that they are
      read back with ``weights_only=True``.
    * The validation metrics, with the confidence threshold that they chose, go into the checkpoint, and keys of the
      images that trained it.
    * A resumed run follows its config (:mod:`covidmm.engine.resuming`), and its checkpoints name what trained the
      epochs before.
    * Loading prints the share of the model's parameters that was filled and refuses a poor one.

    Args:
        interval: epochs between two checkpoints, or iterations; the last one always has one.
        max_keep_ckpts: how many of them stay, -1 for all. One alone, as in many configs of MMDetection, becomes two, so
            that one is whole at any moment, which the log says.
        save_best: the metric that picks the best checkpoint, kept beside them.
        rule: ``greater`` or ``less``.
        by_epoch: whether ``interval`` counts epochs, as the training does by default. In a training that counts
            iterations, an interval of epochs is one of validations.
    """

    def __init__(
        self,
        interval: int = 1,
        max_keep_ckpts: int = 2,
        save_best: str | None = None,
        rule: str | None = None,
        by_epoch: bool | None = None,
    ) -> None:
        if max_keep_ckpts < 1 and max_keep_ckpts != -1:
            raise ConfigError(f"max_keep_ckpts must be a positive integer, or -1 for all, not {max_keep_ckpts}")
        super().__init__(
            interval,
            by_epoch=True,  # whatever the interval counts, the files follow the loop
            max_keep_ckpts=2 if max_keep_ckpts == 1 else max_keep_ckpts,
            save_best=save_best,
            rule=rule,
            backend_args={"backend": "atomic"},
        )
        self._interval_by_epoch = by_epoch
        self._one_asked = max_keep_ckpts == 1
        #: Provenance of the epochs that a resumed training did not train itself with this config and data.
        self._earlier_epochs: list[dict[str, Any]] = []
        # keys of the images that trained the weights which the training began with, and of those with its own
        self._earlier: torch.Tensor | None = None
        self._seen: torch.Tensor | None = None

    def before_train(self, runner: Runner) -> None:
        """Count as the training does.

        Raises:
            ConfigError: the interval counts iterations, and the training epochs.
        """
        self.by_epoch = not isinstance(runner.train_loop, IterBasedTrainLoop)
        self.filename_tmpl = "epoch_{}.pth" if self.by_epoch else "iter_{}.pth"
        if self.by_epoch and self._interval_by_epoch is False:
            raise ConfigError(
                "default_hooks.checkpoint.by_epoch is False, expected True: train_cfg counts epochs, and only whole "
                "ones can be resumed"
            )
        super().before_train(runner)
        if self._one_asked:
            runner.logger.info("checkpoints: two are kept, not max_keep_ckpts=1, so that one is whole at any moment")
        if not self.by_epoch and self._interval_by_epoch is not False:
            runner.logger.info(
                "checkpoints: one after each validation and at the end; for one every 'interval' iterations set "
                "default_hooks.checkpoint.by_epoch=False"
            )

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Write a checkpoint where the training counts iterations, unless a validation follows, which will."""
        step = runner.iter + 1
        if not self.by_epoch and self._due(runner, step) and not _validates(runner, step):
            self._save_checkpoint(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Write the epoch's checkpoint unless a validation follows, which will."""
        if not _validates(runner, runner.epoch + 1):
            super().after_train_epoch(runner)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float]) -> None:
        """Write the best checkpoint where this epoch or iteration is it, then its own."""
        runner.message_hub.update_info("metrics_of_validation", {k: float(v) for k, v in metrics.items()})
        super().after_val_epoch(runner, metrics)
        step = runner.epoch if self.by_epoch else runner.iter
        if step and self._due(runner, step):
            self._save_checkpoint_with_step(runner, step, {"epoch": runner.epoch, "iter": runner.iter})

    def _due(self, runner: Runner, step: int) -> bool:
        if step == (runner.max_epochs if self.by_epoch else runner.max_iters):
            return True
        if not self.by_epoch and self._interval_by_epoch is not False:
            return _validates(runner, step)
        return step % self.interval == 0

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, float]) -> None:
        lacking = [name for name in getattr(self, "key_indicators", ()) if name not in (*metrics, "auto")]
        if lacking:
            runner.logger.warning(
                "%s is not defined on this validation set: no best checkpoint is kept, only the last ones; it gave %s",
                lacking[0],
                ", ".join(sorted(metrics)) or "nothing",
            )
        else:
            super()._save_best_checkpoint(runner, metrics)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Reduce the checkpoint to tensors and plain values."""
        hub = checkpoint["message_hub"]
        hub["log_scalars"] = {name: plain_history(buffer) for name, buffer in hub["log_scalars"].items()}
        hub["runtime_info"] = plain(hub["runtime_info"])
        hub["resumed_keys"] = dict(hub["resumed_keys"])
        checkpoint["meta"] = plain(checkpoint["meta"])
        checkpoint["meta"]["provenance"] = training_provenance(runner.cfg)
        if self._earlier_epochs:
            checkpoint["meta"]["provenance"]["earlier"] = self._earlier_epochs
        if self._seen is None:
            self._seen = training_images(runner.cfg.get("train_dataloader", {}).get("dataset", {}), self._earlier)
        if self._seen is not None:
            checkpoint["meta"][TRAINING_IMAGES] = self._seen
        checkpoint["meta"]["val_metrics"] = hub["runtime_info"].get("metrics_of_validation", {})
        checkpoint["param_schedulers"] = plain(checkpoint.get("param_schedulers", []))

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Check the fit, and bring the log history back into the form that MMEngine resumes from.

        Raises:
            CheckpointError: it does not fit the model, or a training is to be resumed and it holds weights alone or
                was trained on other classes.
        """
        if runner._resume:
            self._resume_from(runner, checkpoint, str(runner._load_from))
        self._earlier = (checkpoint.get("meta") or {}).get(TRAINING_IMAGES)
        leave_out_other_classes(runner, checkpoint)
        model = getattr(runner.model, "module", runner.model)
        found = coverage(model.state_dict(), state_of(checkpoint))
        trains = isinstance(runner._train_loop, BaseLoop) and not runner._resume
        require_coverage(found, str(runner._load_from), whole=not trains)
        for name, history in checkpoint.get("message_hub", {}).get("log_scalars", {}).items():
            if isinstance(history, dict):
                checkpoint["message_hub"]["log_scalars"][name] = HistoryBuffer(
                    history["values"].tolist(), history["counts"].tolist(), history["max_length"]
                )

    def _resume_from(self, runner: Runner, checkpoint: dict[str, Any], source: str) -> None:
        _require_training(checkpoint, source)
        follow_config(runner, checkpoint, source)
        meta, info = checkpoint["meta"], checkpoint["message_hub"].get("runtime_info", {})
        metainfo = getattr(runner.train_dataloader.dataset, "metainfo", None)
        if plain(metainfo) == meta.get("dataset_meta"):
            meta["dataset_meta"] = metainfo  # MMEngine compares their bytes
        info["cfg"] = runner.cfg.pretty_text
        self._forget_other_best(runner, info)
        origin, now = meta.get("provenance") or {}, training_provenance(runner.cfg)
        self._earlier_epochs = list(origin.get("earlier", []))
        if any(origin.get(key) != now[key] for key in ("config_resolved_sha256", "data_sha256")):
            self._earlier_epochs.append({"epoch": meta["epoch"], **{k: v for k, v in origin.items() if k != "earlier"}})

    def _forget_other_best(self, runner: Runner, info: dict[str, Any]) -> None:
        """Start the choice of the best checkpoint anew where another metric chose the one before."""
        best = Path(info.get("best_ckpt") or "")
        names = [f"best_{name}_".replace("/", "_") for name in getattr(self, "key_indicators", ())]
        if best.name and names and not best.name.startswith(tuple(names)) and "best_auto_" not in names:
            runner.logger.warning(
                "resume: %s was chosen by another metric than %s", best.name, ", ".join(self.key_indicators)
            )
            info.pop("best_ckpt")
            info.pop("best_score", None)


def latest_checkpoint(work_dir: Path) -> Path:
    """The checkpoint of the last finished epoch in a work dir, or of the last iteration that has one.

    Raises:
        CheckpointError: there is none.
    """
    if found := checkpoints_in(work_dir):
        return found[-1]
    raise CheckpointError(
        f"{work_dir}: no checkpoint to resume from or to test in it, expected epoch_*.pth, iter_*.pth"
    )


def checkpoints_in(work_dir: Path) -> list[Path]:
    """The checkpoints of epochs or iterations in a work dir, the last one at the end; best ones are none of them."""
    found = {path: int(m[1]) for path in work_dir.glob("*.pth") if (m := _FILE.fullmatch(path.name))}
    return sorted(found, key=lambda path: found[path])


def best_checkpoint(work_dir: Path) -> Path:
    """The best checkpoint by validation in a work dir, or the last one where no best was kept.

    Raises:
        CheckpointError: there is none.
    """
    best = sorted(work_dir.glob("best_*.pth"), key=lambda path: path.stat().st_mtime)
    return best[-1] if best else latest_checkpoint(work_dir)


def trained_file(name: str | Path) -> Path:
    """The checkpoint file that a config means by a path, ``covidmm://NAME``, or a work dir: its best one.

    Raises:
        CheckpointError: there is none.
    """
    path = checkpoint_file(str(name))
    return best_checkpoint(path) if path.is_dir() else path


def load_trained(cfg: Config, checkpoint: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Build the model of a config with the weights of a checkpoint, in evaluation mode, on the CPU.

    Returns:
        The model, and the checkpoint's ``meta``.

    Raises:
        CheckpointError: the checkpoint is missing, unsafe to read, or of another model.
        ConfigError: the model cannot be built.
    """
    init_default_scope(cfg.get("default_scope", "mmdet"))
    with build_errors_named():
        model = MODELS.build(ConfigDict(without_pretraining(cfg.model.to_dict())))
    check_ops(model)
    content = read_checkpoint(checkpoint)
    try:
        state = state_of(content)
    except CheckpointError as error:
        raise CheckpointError(f"{checkpoint}: {error}") from error
    require_coverage(coverage(model.state_dict(), state), str(checkpoint), whole=True)
    model.load_state_dict(state, strict=False)
    model.eval()  # returns nothing for detectors with a teacher
    return model, content.get("meta", {})


def checkpoint_hashes(config: Any) -> list[str]:
    """The SHA-256 of every checkpoint that a plugin's config names, at any depth, in its order.

    Raises:
        DataError: one is missing.
    """
    return [sha256(path) for path in checkpoint_files(config)]


def checkpoint_files(config: Any) -> Iterator[Path]:
    """Every checkpoint that a plugin's config names, at any depth, in its order."""
    if isinstance(config, Mapping):
        own = config.get("checkpoint")
        if isinstance(own, str):
            yield trained_file(own)
        config = config.values()
    elif not isinstance(config, list | tuple):
        return
    for value in config:
        yield from checkpoint_files(value)


def _require_training(checkpoint: Mapping[str, Any], source: str) -> None:
    """Refuse to resume from weights alone."""
    meta = checkpoint.get("meta") or {}
    lacking = [key for key in ("epoch", "iter") if not isinstance(meta.get(key), int) or meta[key] < 0]
    lacking += [key for key in ("optimizer", "message_hub") if not isinstance(checkpoint.get(key), Mapping)]
    if lacking:
        raise CheckpointError(
            f"{source}: cannot be resumed, it holds no {', '.join(lacking)} of a training; "
            f"to start from its weights: --cfg-options load_from={source}"
        )


def _validates(runner: Runner, step: int) -> bool:
    """Whether a validation follows an epoch, or an iteration where the training counts those."""
    loop = runner.train_loop
    last = loop.max_iters if isinstance(loop, IterBasedTrainLoop) else loop.max_epochs
    # the loop sets its val_interval after the hooks, and looks one step ahead
    interval = loop.dynamic_intervals[bisect(loop.dynamic_milestones, step + 1) - 1]
    return runner.val_loop is not None and step >= loop.val_begin and (step % interval == 0 or step == last)
