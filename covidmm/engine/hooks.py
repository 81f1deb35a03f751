"""Hooks of the training loop: pretrained weights, reproducible epochs, and checks and losses of each epoch."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmcv.transforms import LoadAnnotations, Pad
from mmdet.models.layers import DropBlock
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.dist import all_reduce_dict, all_reduce_params
from mmengine.hooks import Hook
from mmengine.registry import FUNCTIONS, HOOKS
from mmengine.runner import Runner
from mmengine.runner.checkpoint import get_torchvision_models
from torch import nn

from covidmm.errors import ConfigError, TrainingError, did_you_mean


@HOOKS.register_module()
class PretrainedHook(Hook):
    """Starts the backbone from the weights that the config's line ``pretrained = NAME`` chooses.

    The config lists them as ``pretrained_weights = dict(imagenet='torchvision://resnet18', none=None)``. A backbone
    with an ``init_cfg`` of its own keeps that.
    """

    def before_run(self, runner: Runner) -> None:
        """Give the backbone its ``init_cfg``; MMEngine initialises the model next.

        Raises:
            ConfigError: the config lists no weights of that name.
        """
        checkpoint = pretrained_checkpoint(runner.cfg)
        if checkpoint:
            model = getattr(runner.model, "module", runner.model)
            model.backbone.init_cfg = {"type": "Pretrained", "checkpoint": checkpoint}


def pretrained_checkpoint(cfg: Config) -> str | None:
    """The checkpoint that :class:`PretrainedHook` loads for a config, or None.

    Raises:
        ConfigError: the config lists no weights of that name, or torchvision has none of the backbone's depth.
    """
    name, choices = cfg.get("pretrained"), cfg.get("pretrained_weights")
    if name is None:
        return None
    backbone = cfg.model.get("backbone")
    if backbone is None:
        raise ConfigError("pretrained: the model has no 'backbone' at its top; give that of its detector an init_cfg")
    if "init_cfg" in backbone:
        return None
    if choices is None:
        raise ConfigError(
            f"pretrained is '{name}', and the config has no pretrained_weights, such as dict({name}='covidmm://...')"
        )
    if name not in choices:
        raise ConfigError(f"pretrained is '{name}', it can be {', '.join(choices)}{did_you_mean(str(name), choices)}")
    return _of_its_depth(str(name), choices[name], backbone)


def _of_its_depth(name: str, checkpoint: str | None, backbone: Mapping[str, Any]) -> str | None:
    """torchvision's weights of a ResNet or ResNeXt as deep and wide as the backbone: a base listed those of its own.

    Raises:
        ConfigError: torchvision has none.
    """
    listed = re.fullmatch(r"torchvision://(resne[x]?t\d+(?:_\d+x\d+d)?)(\.\w+)?", checkpoint or "")
    own = _name_in_torchvision(backbone)
    if checkpoint is None or not listed or own is None or listed.group(1) == own:
        return checkpoint
    if own not in get_torchvision_models():
        raise ConfigError(
            f"pretrained is '{name}', which is {checkpoint}, but model.backbone is {own}, of which torchvision has no "
            "weights; choose pretrained=none, or give the backbone an init_cfg"
        )
    return f"torchvision://{own}"


def _name_in_torchvision(backbone: Mapping[str, Any]) -> str | None:
    kind, depth = str(backbone.get("type")).rpartition(".")[2], backbone.get("depth")
    if kind == "ResNeXt":  # the numbers are MMDetection's defaults
        return f"resnext{depth}_{backbone.get('groups', 1)}x{backbone.get('base_width', 4)}d"
    return f"resnet{depth}" if kind == "ResNet" else None


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Seeds every random generator from (seed, epoch, rank) at the start of each training epoch.

    An epoch then draws the same augmentations whether the run was stopped before it or not. A run that counts
    iterations has one epoch: resumed, it is seeded from its iteration, lest it repeat the augmentations of its
    beginning. The data loaders need ``worker_init_fn=dict(type='seed_worker')`` and ``persistent_workers=False``.
    """

    priority = "VERY_HIGH"

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed Python, NumPy and torch."""
        sequence = np.random.SeedSequence([runner.seed, runner.epoch or runner.iter, runner.rank])
        _seed_all(int(sequence.generate_state(1)[0]))


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Stops a training whose loss is infinite or NaN, and names the files of that batch.

    MMDetection's own check looks at every fiftieth iteration only, where the batch is another one. The weights are lost
    by then; the checkpoint of the last epoch is not.
    """

    priority = "VERY_HIGH"

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Check every loss of the batch.

        Raises:
            TrainingError: one is infinite or NaN.
        """
        losses = {name: float(torch.as_tensor(value).detach()) for name, value in (outputs or {}).items()}
        wrong = [name for name, value in losses.items() if not np.isfinite(value)]
        if wrong:
            raise TrainingError(
                f"epoch {runner.epoch + 1}, iteration {batch_idx + 1}: {', '.join(wrong)} is {losses[wrong[0]]}"
                f" for the batch {', '.join(_files_of(data_batch))}; a lower learning rate or optim_wrapper.clip_grad"
                " may help, and the last finished epoch can be resumed"
            )


@HOOKS.register_module()
class PositiveSamplesHook(Hook):
    """Warns after a training epoch in which the model saw no positive sample: no box and no finding.

    An augmentation, or a limit on the epoch, can do that to a data set that has some; the loss of such an epoch falls.
    """

    def before_train_epoch(self, runner: Runner) -> None:
        """Reset the counts."""
        self._samples = self._positives = 0

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Count the samples of a batch."""
        for sample in _samples_of(data_batch):
            self._samples += 1
            self._positives += len(sample.gt_instances) if "gt_instances" in sample else int(sample.target.sum())

    def after_train_epoch(self, runner: Runner) -> None:
        """Warn where no sample was positive."""
        if self._samples and not self._positives:
            runner.logger.warning("No positive samples in epoch %d (%d images)", runner.epoch + 1, self._samples)


def _samples_of(data_batch: Any) -> Sequence[Any]:
    return data_batch.get("data_samples", ()) if isinstance(data_batch, dict) else ()


def _files_of(data_batch: Any) -> list[str]:
    return [str(getattr(sample, "img_path", "?")) for sample in _samples_of(data_batch)] or ["of unknown files"]


@FUNCTIONS.register_module()
def seed_worker(worker_id: int) -> None:
    """Seed a data-loader worker's Python and NumPy generators from torch's, which differs per epoch.

    MMEngine's own function gives a worker the same seed in every epoch, so that it repeats its
    augmentations unless workers persist, and persistent workers make an exact resume impossible.
    """
    _seed_all(torch.initial_seed() % 2**32)


@HOOKS.register_module()
class ValidationLossHook(Hook):
    """Adds the model's losses on the validation set to its metrics: ``val_loss``, ``val_loss_bbox``, ...

    MMDetection computes none. Its test pipelines load annotations after they resize, for metrics in pixels of the
    originals; here such boxes are scaled to what the model sees. Where a pipeline moves pixels in another way before it
    loads annotations, or a detector has no loss while it predicts, there is none, and the log says so once.
    """

    priority = "HIGH"

    def __init__(self) -> None:
        self._none = False

    def before_val_epoch(self, runner: Runner) -> None:
        """Reset the sums."""
        self._sums: dict[str, float] = defaultdict(float)
        self._batches = 0

    @torch.no_grad()
    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Add the losses of one batch."""
        if self._none:
            return
        model = getattr(runner.model, "module", runner.model)
        # the prediction changed nothing in data_batch: preprocessing again is exact
        data = model.data_preprocessor(data_batch, training=False)
        if "data_samples" in data and (early := _before_annotations(runner.val_dataloader.dataset)):
            if other := [name for name, scales in early.items() if not scales]:
                self._none = True
                runner.logger.warning(f"no validation loss: {other[0]} comes before LoadAnnotations, and moves pixels")
                return
            data["data_samples"] = [_scaled(sample) for sample in data["data_samples"]]
        # losses sample RoIs; the random numbers of the training must stay the same
        with torch.random.fork_rng(devices=[]), _numpy_state_kept(), _autocast(runner), _losing(model):
            torch.manual_seed(batch_idx)
            np.random.seed(batch_idx)
            try:
                losses = model(**data, mode="loss")
            except (TypeError, AttributeError, AssertionError, KeyError) as error:  # what a part that is missing raises
                self._none = True
                cause = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
                name = type(model).__name__
                runner.logger.warning(f"no validation loss: {name} has none while it predicts ({cause})")
                return
        _, parsed = model.parse_losses(losses)
        for name, value in parsed.items():
            self._sums[name] += float(value)
        self._batches += 1

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Publish the means over the batches of all processes."""
        if self._none:
            return
        sums = {name: torch.tensor(value, dtype=torch.float64) for name, value in self._sums.items()}
        sums["batches"] = torch.tensor(self._batches, dtype=torch.float64)
        all_reduce_dict(sums)
        batches = float(sums.pop("batches"))
        for name, value in sums.items():
            mean = float(value) / batches
            # 'val_' because MMEngine drops the 'val/' when it hands scalars to TensorBoard
            runner.message_hub.update_scalar(f"val/val_{name}", mean)
            if metrics is not None:
                metrics[f"val_{name}"] = mean


@HOOKS.register_module()
class SharedBuffersHook(Hook):
    """Averages the statistics of batch norms over all processes, so that each of them validates the same model.

    Unlike MMEngine's SyncBuffersHook it also does so before a validation, after EMAHook has put the averaged model in
    place. :func:`covidmm.engine.launch.share_out` adds this hook.
    """

    def after_train_epoch(self, runner: Runner) -> None:
        """Average the model that trains."""
        _average_buffers(runner)

    def before_val_epoch(self, runner: Runner) -> None:
        """Average the model that is validated."""
        _average_buffers(runner)


def _average_buffers(runner: Runner) -> None:
    all_reduce_params((buffer for buffer in runner.model.buffers() if buffer.is_floating_point()), op="mean")


class _numpy_state_kept:  # noqa: N801 - reads as a function
    def __enter__(self) -> None:
        self._states = np.random.get_state(), random.getstate()

    def __exit__(self, *_: object) -> None:
        np.random.set_state(self._states[0])
        random.setstate(self._states[1])


def _before_annotations(dataset: Any) -> dict[str, bool]:
    """The steps of a pipeline between the image and its annotations, by name, and whether each scales or pads alone."""
    while hasattr(dataset, "dataset"):
        dataset = dataset.dataset
    steps = list(getattr(getattr(dataset, "pipeline", None), "transforms", ()))
    loading = next((place for place, step in enumerate(steps) if isinstance(step, LoadAnnotations)), 0)
    kinds = [type(step) for step in steps[1:loading]]
    return {kind.__name__: "Resize" in kind.__name__ or issubclass(kind, Pad) for kind in kinds}


def _scaled(sample: DetDataSample) -> DetDataSample:
    """A copy whose boxes, in pixels of the original, are in those of the resized image."""
    scaled, (across, down) = sample.clone(), sample.scale_factor
    for instances in (scaled.get("gt_instances"), scaled.get("ignored_instances")):
        if instances is not None and "bboxes" in instances:
            boxes = instances.bboxes
            instances.bboxes = boxes * boxes.new_tensor([across, down, across, down])
    return scaled


@contextmanager
def _losing(model: nn.Module) -> Iterator[None]:
    """MMDetection's detectors and heads hand to their losses what they hand them in a training.

    In evaluation mode DINO has no denoising queries, VFNet and RepPoints no first boxes, and FCOS decodes its deltas
    before the loss. Batch norms and dropouts, which are PyTorch's and MMCV's, stay as they validate.
    """
    switched = [module for module in model.modules() if not module.training and _is_of_mmdetection(type(module))]
    for module in switched:
        module.training = True  # `train()` would reach the norms
    try:
        yield
    finally:
        for module in switched:
            module.training = False


def _is_of_mmdetection(kind: type) -> bool:
    """Whether a class is one of MMDetection's or inherits one; what drops values at random is not."""
    return not issubclass(kind, DropBlock) and any(base.__module__.startswith("mmdet.") for base in kind.__mro__)


def _autocast(runner: Runner) -> torch.autocast:
    dtype = getattr(runner.optim_wrapper, "cast_dtype", None)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.autocast(device, dtype=dtype or torch.bfloat16, enabled=dtype is not None)


def _seed_all(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
