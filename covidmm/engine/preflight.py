"""Checks of data, pipeline and model before the first epoch."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.structures.bbox import bbox_overlaps
from mmengine.hooks import CheckpointHook, EMAHook, Hook
from mmengine.optim import OptimWrapperDict
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

from covidmm.datasets.annotations import read_annotations
from covidmm.datasets.picture_files import picture_fault
from covidmm.engine.hooks import PretrainedHook, pretrained_checkpoint
from covidmm.engine.model_checks import check_box_losses, check_channels, check_queries, frozen_at_random
from covidmm.engine.pipeline_checks import boxes_after_pipeline, packed
from covidmm.engine.schedules import misfits
from covidmm.errors import ConfigError, DataError


@HOOKS.register_module()
class PreflightHook(Hook):
    """Checks that data, pipeline and model agree, and logs what is kept.

    * Channels of backbone, neck and heads meet, and a loss of overlaps gets boxes.
    * Class names, category ids and every head's ``num_classes`` agree.
    * No image is in training and in validation; no image file is missing, damaged or of another size than annotated.
    * The run trains something, from the weights that its config names, and its schedules fit its length.
    * Ground-truth boxes survive the training pipeline, and anchors match them.
    * The log says how many images with and without boxes each split keeps.

    Args:
        samples: training images that are sent through the pipeline, spread over the data set.
    """

    priority = "VERY_HIGH"

    def __init__(self, samples: int = 32) -> None:
        self.samples = samples

    def before_run(self, runner: Runner) -> None:
        """Check the model alone, before its weights are read.

        Raises:
            ConfigError: two parts of the model disagree.
        """
        model = getattr(runner.model, "module", runner.model)
        check_box_losses(model)
        check_queries(model)
        check_channels(model)

    def before_train(self, runner: Runner) -> None:
        """Run the checks.

        Raises:
            ConfigError: the model and the data disagree.
            DataError: the data cannot be trained on.
        """
        _check_run(runner)
        train = runner.train_dataloader.dataset
        datasets = {"train": train}
        if runner.val_loop is not None:
            datasets["val"] = runner.val_dataloader.dataset
        files = {}
        for split, dataset in datasets.items():
            files[split] = _check_dataset(split, dataset, runner.logger)
        shared = sorted(set(files["train"]) & set(files.get("val", ())))
        if shared:
            raise DataError(f"{shared[0]}: is in training and in validation ({len(shared)} such images)")
        _require_one_average(runner.hooks)
        model = getattr(runner.model, "module", runner.model)
        classes = tuple(train.metainfo["classes"])
        check_classes(model, classes)
        if frozen := frozen_at_random(model, runner.cfg):
            runner.logger.warning("preflight: %s", frozen)
        with _untouched_randomness():
            for split, dataset in datasets.items():
                packed(split, dataset, 0)
        if "gt_label" in train.get_data_info(0):
            for split, dataset in datasets.items():
                runner.logger.info("preflight: %s: %s", split, check_labels(dataset, classes))
            return
        with _untouched_randomness():
            boxes = boxes_after_pipeline(train, self.samples)
        runner.logger.info("preflight: %s", check_anchors(model, boxes))

    def before_test(self, runner: Runner) -> None:
        """Every image of the test split is there, in the size that its boxes count in, and the pipeline packs it.

        Raises:
            ConfigError: the pipeline does not.
            DataError: an image is not there, or of another size.
        """
        found = list(leaves(runner.test_dataloader.dataset))
        _require_files("test", [leaf.get_data_info(index) for leaf in found for index in range(len(leaf))])
        with _untouched_randomness():
            packed("test", runner.test_dataloader.dataset, 0)


def _check_run(runner: Runner) -> None:
    """The run has steps that change something, and starts from what its config says."""
    loop = runner.train_loop
    if loop.max_iters < 1:
        raise ConfigError(
            f"train_cfg: nothing would be trained, {loop.max_epochs} epochs of {len(runner.train_dataloader)} batches "
            f"from {len(runner.train_dataloader.dataset)} images are {loop.max_iters} steps"
        )
    several = isinstance(runner.optim_wrapper, OptimWrapperDict)
    wrappers = runner.optim_wrapper.values() if several else [runner.optim_wrapper]
    if not any(group.get("initial_lr", group["lr"]) for wrapper in wrappers for group in wrapper.param_groups):
        raise ConfigError("optim_wrapper.optimizer.lr is 0: nothing would be trained")
    if pretrained_checkpoint(runner.cfg) and not any(isinstance(hook, PretrainedHook) for hook in runner.hooks):
        raise ConfigError("pretrained: nothing reads it; default_hooks lacks pretrained=dict(type='PretrainedHook')")
    named, backbone = runner.cfg.get("pretrained"), runner.cfg.get("model", {}).get("backbone") or {}
    if named not in (None, "none") and "init_cfg" in backbone:
        own = backbone["init_cfg"]
        runner.logger.warning("pretrained: '%s' is not taken, model.backbone.init_cfg is %s", named, own and dict(own))
    _check_save_best(runner)
    for line in misfits(runner):
        runner.logger.warning("schedule: %s", line)


def _check_save_best(runner: Runner) -> None:
    """The metric that chooses the best checkpoint is of one of the evaluators, as far as its prefix tells."""
    metrics = runner.val_evaluator.metrics if runner.val_loop is not None else []
    prefixes = [metric.prefix for metric in metrics]
    for hook in runner.hooks:
        for name in getattr(hook, "key_indicators", ()) if isinstance(hook, CheckpointHook) and metrics else ():
            if "/" in name and None not in prefixes and name.split("/")[0] not in prefixes:
                raise ConfigError(
                    f"default_hooks.checkpoint.save_best is '{name}', but val_evaluator gives "
                    f"{', '.join(f'{prefix}/...' for prefix in prefixes)}"
                )


def _require_one_average(hooks: list[Hook]) -> None:
    """Each EMAHook exchanges its average with the model around a validation: two give back each other's."""
    count = sum(isinstance(hook, EMAHook) for hook in hooks)
    if count > 1:
        raise ConfigError(
            f"custom_hooks: {count} of type EMAHook, expected one; a config that adds its own leaves out its base's, "
            "which is the last one: [*_base_.custom_hooks[:-1], ...]"
        )


def check_classes(model: nn.Module, classes: tuple[str, ...]) -> None:
    """Every head that classifies into classes has as many as the data set.

    Raises:
        ConfigError: one does not, by its name in the model.
    """
    for name, module in model.named_modules():
        count = getattr(module, "num_classes", None)
        # region proposals have one class, 'object', whatever the data
        if isinstance(count, int) and "rpn" not in name and count != len(classes):
            raise ConfigError(
                f"model.{name}.num_classes is {count}, the data set has {len(classes)}: {', '.join(classes)}"
            )


def check_labels(dataset: Any, classes: tuple[str, ...]) -> str:
    """How often each class occurs in a data set of label vectors.

    Returns:
        A line for the log, with a warning that names classes without a positive.

    Raises:
        DataError: not one label is positive.
    """
    counts = sum(leaf.get_data_info(i)["gt_label"] for leaf in leaves(dataset) for i in range(len(leaf)))
    if not counts.any():
        raise DataError("every label of every image is negative: nothing could be learned")
    line = ", ".join(f"{name} {int(count)}" for name, count in zip(classes, counts, strict=True))
    absent = [name for name, count in zip(classes, counts, strict=True) if not count]
    return f"{line}: WARNING, no positive of {', '.join(absent)}" if absent else line


def check_anchors(model: nn.Module, samples: list[tuple[torch.Tensor, tuple[int, int]]]) -> str:
    """How well the anchors of a detector can match the boxes that its pipeline hands it.

    Args:
        model: a detector; one without anchors passes.
        samples: per image the (N, 4) boxes and the (height, width), after the pipeline.

    Returns:
        A line for the log.

    Raises:
        ConfigError: no box matches any anchor, so nothing could be learned.
    """
    boxed = [(boxes, size) for boxes, size in samples if len(boxes)]
    total = sum(len(boxes) for boxes, _ in boxed)
    head = _anchor_head(model)
    if head is None:
        return f"{total} boxes of {len(samples)} sampled images reach the model, which has no anchors to check"
    judge = _fit_by_assigner if hasattr(head, "matched_share") else _fit_by_overlap
    fits, any_fits, most_fit = judge(head, boxed)
    reach = f"{total} boxes of {len(samples)} sampled images reach the model; "
    if not any_fits:
        sides = _sides(torch.cat([boxes for boxes, _ in boxed]))
        anchor_sides = _sides(torch.cat(list(head.prior_generator.base_anchors)))
        raise ConfigError(
            f"{reach}{fits}: square roots of the areas are {min(sides):.0f} to {max(sides):.0f} px for boxes and "
            f"{min(anchor_sides):.0f} to {max(anchor_sides):.0f} px for anchors"
        )
    return f"{reach}{fits}" + ("" if most_fit else ": WARNING, the anchors fit these boxes badly")


def _fit_by_assigner(head: Any, boxed: list[tuple[torch.Tensor, tuple[int, int]]]) -> tuple[str, bool, bool]:
    """Judge anchors by the head's own rule: the share of boxes that any anchor answers for."""
    share = head.matched_share(torch.cat([boxes for boxes, _ in boxed]))
    return f"anchors answer for {share:.0%} of them", share > 0, share >= 0.9


def _fit_by_overlap(head: Any, boxed: list[tuple[torch.Tensor, tuple[int, int]]]) -> tuple[str, bool, bool]:
    """Judge anchors by the best IoU that the grid of anchors has with each box."""
    best = []
    for boxes, (height, width) in boxed:
        sizes = [(-(-height // y), -(-width // x)) for x, y in head.prior_generator.strides]
        anchors = torch.cat(head.prior_generator.grid_priors(sizes, device="cpu"))
        best.append(bbox_overlaps(boxes, anchors).amax(1))
    overlaps = torch.cat(best)
    if not (overlaps >= 0.3).any():
        return "no anchor overlaps any of them by IoU 0.3", False, False
    recall = float((overlaps >= 0.5).float().mean())
    text = f"the best anchor overlaps them by IoU {float(overlaps.mean()):.2f} on average, {recall:.0%} by at least 0.5"
    return text, True, recall >= 0.5


def _sides(boxes: torch.Tensor) -> list[float]:
    return (boxes[:, 2:] - boxes[:, :2]).prod(1).sqrt().tolist()


def _check_dataset(split: str, dataset: Any, logger: Any) -> list[str]:
    """Check one split's images and boxes and log their counts; return the image files."""
    files, infos, boxed, labelled = [], [], 0, False
    for leaf in leaves(dataset):
        _check_categories(leaf)
        for index in range(len(leaf)):
            info = leaf.get_data_info(index)
            files.append(str(info["img_path"]))
            infos.append(info)
            boxed += bool(info.get("instances"))
            labelled = labelled or "gt_label" in info
    if not files:
        raise DataError(f"the {split} set has no image")
    if not boxed and not labelled:
        raise DataError(f"the {split} set has {len(files)} images and not one box")
    _require_files(split, infos)
    listed = sum(_listed(leaf) for leaf in leaves(dataset))
    dropped = f"; filter_cfg or indices drop {listed - len(files)} of {listed}" if listed > len(files) else ""
    kept = f"{len(files)} images" if labelled else f"{boxed} images with boxes and {len(files) - boxed} without"
    logger.info("%s: %s%s", split, kept, dropped)
    return files


def _require_files(split: str, infos: list[dict[str, Any]]) -> None:
    """Every picture is there, not visibly damaged, and of the size that its boxes were drawn for."""
    faults = {}
    for info in infos:
        size = (info["height"], info["width"]) if info.get("height") and info.get("width") else None
        if fault := picture_fault(info["img_path"], size):
            faults[info["img_path"]] = fault
    for path, fault in faults.items():
        raise DataError(f"{path}: {fault} ({len(faults)} of {len(infos)} of the {split} set)")


def _check_categories(dataset: Any) -> None:
    coco = getattr(dataset, "coco", None)
    ids = getattr(dataset, "cat_ids", None)
    classes = dataset.metainfo.get("classes", ())
    if coco is None and ids is not None and len(ids) != len(classes):
        raise DataError(f"{dataset.ann_file}: has categories {ids}, the data set names {', '.join(classes)}")


def _listed(dataset: Any) -> int:
    """Images in the annotation file, before any filter."""
    path = getattr(dataset, "ann_file", None)
    if not path or not Path(path).is_file():
        return len(dataset)
    return len(read_annotations(path)["images"])


def leaves(dataset: Any) -> Iterator[Any]:
    """The data sets inside wrappers such as RepeatDataset, ConcatDataset and MultiImageMixDataset."""
    inner = getattr(dataset, "datasets", None) or [getattr(dataset, "dataset", None)]
    if inner == [None]:
        yield dataset
    else:
        for item in inner:
            yield from leaves(item)


def _anchor_head(model: nn.Module) -> Any:
    for name in ("rpn_head", "bbox_head"):
        head = getattr(model, name, None)
        if hasattr(getattr(head, "prior_generator", None), "base_anchors"):
            return head
    return None


class _untouched_randomness:  # noqa: N801 - reads as a function
    """Restores every random generator, so that a run with and without checks is the same."""

    def __enter__(self) -> None:
        self._states = random.getstate(), np.random.get_state(), torch.get_rng_state()

    def __exit__(self, *_: object) -> None:
        random.setstate(self._states[0])
        np.random.set_state(self._states[1])
        torch.set_rng_state(self._states[2])
