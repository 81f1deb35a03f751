"""A config's classes follow its data set: heads and data sets get them from the prepared folder."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config, ConfigDict
from mmengine.runner import Runner

from covidmm.datasets.prepared_folder import read_split
from covidmm.errors import CheckpointError, ConfigError
from covidmm.models.checkpoints import classes_in
from covidmm.models.classifier import RadiographClassifier
from covidmm.models.pretrained import without_pretraining

#: In the order in which their data sets are asked for the classes.
_LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
_HEADS = ("bbox_head", "mask_head", "query_head")


def follow_data(cfg: Config) -> None:
    """Give the heads of a config as many classes as its data set has, and every data set the same classes; in place.

    That is for data sets of the types ``FindingsDataset`` and ``FindingsLabelDataset``. ``classes`` at the top of the
    config names some of the folder's classes, or all in another order; ``class_map`` joins or renames them, and
    ``negative`` names that of an image without a label; a data set may have its own. Whether several labels can hold is
    said by the model, to data sets and metrics. Where the folder is missing, as on a machine that only predicts, the
    number of classes stays as it is.

    Raises:
        ConfigError: ``classes`` or ``class_map`` stands in a config that has no such data set, or is none.
        DataError: the annotation file is damaged, or its categories do not fit.
    """
    datasets = _followed(cfg)
    named, class_map = cfg.get("classes"), cfg.get("class_map")
    if not datasets:
        for key in ("classes", "class_map", "negative"):
            if key in cfg:
                kinds = "FindingsLabelDataset" if key == "negative" else "FindingsDataset or FindingsLabelDataset"
                raise ConfigError(f"{key}: nothing reads it, the config has no data set of the type {kinds}")
        return
    _require_names(named, class_map)
    for dataset in datasets:
        if class_map is not None:
            dataset.setdefault("class_map", class_map)
    _follow_labels(cfg, datasets)
    for split in ("val", "test"):
        _map_in_metrics(cfg, split)
    classes = tuple(named) if named else _classes_of(datasets)
    if not classes:
        return
    for dataset in datasets:
        dataset["metainfo"] = {**(dataset.get("metainfo") or {}), "classes": classes}
    set_class_count(cfg.model, len(classes))


def follows_data(cfg: Config) -> bool:
    """Whether the classes of a config are those of its prepared folder."""
    return bool(_followed(cfg))


def classes_of(cfg: Config) -> tuple[str, ...]:
    """The classes of a config's test data set; none where it follows a folder that is not here."""
    dataset = cfg.test_dataloader.dataset
    found = dataset.get("metainfo", {}).get("classes") or DATASETS.get(dataset.type).METAINFO.get("classes", ())
    return (found,) if isinstance(found, str) else tuple(found)


def negative_class(cfg: Config, classes: Sequence[str]) -> str | None:
    """The class which says that nothing is there, by a config's test data set; None where none of these does."""
    dataset = cfg.test_dataloader.dataset
    found = dataset.get("negative") or getattr(DATASETS.get(dataset.type), "NEGATIVE", None)
    return found if found in classes else None


def follow_checkpoint(cfg: Config, classes: Sequence[str]) -> None:
    """Give a config that follows its data set the classes of a trained model instead; in place.

    A test folder may list them in another order, lack some or have more.

    Args:
        cfg: loaded.
        classes: of the checkpoint; empty where it does not say.
    """
    datasets = _followed(cfg)
    if not datasets or not classes:
        return
    for dataset in datasets:
        dataset["metainfo"] = {**(dataset.get("metainfo") or {}), "classes": tuple(classes)}
        dataset["absent"] = tuple(classes)  # the metric says which have no box
    set_class_count(cfg.model, len(classes))


def leave_out_other_classes(runner: Runner, checkpoint: dict[str, Any]) -> None:
    """Drop from a checkpoint what was learned of other classes, or of the same in another order, and say so.

    Raises:
        CheckpointError: a training is to be resumed.
    """
    was = classes_in(checkpoint)
    dataset = getattr(runner._train_dataloader, "dataset", None)
    now = tuple(getattr(dataset, "metainfo", {}).get("classes") or ())
    if not was or not now or was == now:
        return
    source, shown = str(runner._load_from), f"its classes are {', '.join(was)}, here they are {', '.join(now)}"
    if runner._resume:
        raise CheckpointError(f"{source}: cannot be resumed: {shown}")
    weights = checkpoint.get("state_dict", checkpoint)
    dropped = [name for name in class_parameters(runner.cfg.model) if weights.pop(name, None) is not None]
    if dropped:
        runner.logger.warning(f"{source}: {shown}; {len(dropped)} parameters of its heads are left out")


def class_parameters(model: Mapping[str, Any]) -> set[str]:
    """Names of the parameters of a detector, given by its config, whose shapes follow the number of its classes."""
    shapes = []
    for more in (2, 3):  # one class alone is often a case of its own
        changed = deepcopy(ConfigDict(without_pretraining(model)))
        set_class_count(changed, more)
        # not on the meta device, on which Swin and others cannot be built
        with torch.random.fork_rng(devices=[]):
            state = MODELS.build(changed).state_dict()
        shapes.append({name: tensor.shape for name, tensor in state.items()})
    return {name for name, shape in shapes[0].items() if shapes[1].get(name) != shape}


def set_class_count(part: Any, count: int) -> None:
    """Set ``num_classes`` of every head of a model's config, of the losses in them, and of a classifier; in place."""
    if isinstance(part, Mapping):
        if part.get("type") in ("RadiographClassifier", RadiographClassifier):
            part["num_classes"] = count
        for key, value in part.items():
            if key.endswith(_HEADS):
                for head in value if isinstance(value, list | tuple) else [value]:
                    _set(head, count)
            set_class_count(value, count)
    elif isinstance(part, list | tuple):
        for one in part:
            set_class_count(one, count)


def _follow_labels(cfg: Config, datasets: list[Any]) -> None:
    """Give data sets of labels, and their metrics, what the config says at its top and in its model.

    Raises:
        ConfigError: nothing reads ``negative``; the loss is for another kind of labels than the scores.
    """
    labelled = [one for one in datasets if getattr(_kind(one), "OF_IMAGES", False)]
    if not labelled:
        if "negative" in cfg:
            raise ConfigError("negative: nothing reads it, the config has no data set of the type FindingsLabelDataset")
        return
    multi_label = bool(cfg.model.get("multi_label"))
    loss = cfg.model.get("loss") or {}
    if loss.get("type") == "CrossEntropyLoss" and bool(loss.get("use_sigmoid")) != multi_label:
        raise ConfigError(
            f"model.multi_label is {multi_label}, expected model.loss.use_sigmoid={multi_label}: scores are "
            f"{'sigmoids' if multi_label else 'of a softmax'}"
        )
    for dataset in labelled:
        if dataset.get("multi_label", True) != multi_label:
            dataset["multi_label"] = multi_label
        if cfg.get("negative") is not None:
            dataset.setdefault("negative", cfg.negative)
    for split in ("val", "test"):
        for metric in _metrics(cfg, split):
            if metric.get("type") == "LabelMetric":
                metric["multi_label"] = multi_label


def _metrics(cfg: Config, split: str) -> Sequence[Any]:
    evaluators = cfg.get(f"{split}_evaluator") or ()
    return evaluators if isinstance(evaluators, list | tuple) else [evaluators]


def _map_in_metrics(cfg: Config, split: str) -> None:
    """Give the metrics of a split the mapping of its data set: they read the file themselves."""
    own = [one.get("class_map") for one in _datasets((cfg.get(f"{split}_dataloader") or {}).get("dataset"))]
    for metric in _metrics(cfg, split):
        if own and own[0] and metric.get("type") == "DetectionMetric":
            metric.setdefault("class_map", own[0])


def _set(head: Any, count: int) -> None:
    if not isinstance(head, Mapping) or "type" not in head:
        return
    kind = MODELS.get(head["type"]) if isinstance(head["type"], str) else head["type"]
    arguments = [one for base in kind.__mro__ for one in inspect.signature(base.__init__).parameters]
    if "num_classes" in arguments:
        head["num_classes"] = count
    for value in head.values():  # SeesawLoss
        if isinstance(value, Mapping) and "num_classes" in value:
            value["num_classes"] = count


def _followed(cfg: Config) -> list[Any]:
    """The configs of all findings that a config reads."""
    return [one for loader in _LOADERS for one in _datasets((cfg.get(loader) or {}).get("dataset"))]


def _datasets(dataset: Any) -> Iterator[Any]:
    """The configs of the findings inside wrappers such as RepeatDataset, ConcatDataset and MultiImageMixDataset."""
    if isinstance(dataset, list | tuple):
        for one in dataset:
            yield from _datasets(one)
    elif isinstance(dataset, Mapping):
        if getattr(_kind(dataset), "FOLLOWED", False):
            yield dataset
        for key in ("dataset", "datasets"):
            yield from _datasets(dataset.get(key))


def _kind(dataset: Mapping[str, Any]) -> Any:
    """The class of a data set's config; None where it names none."""
    return DATASETS.get(dataset["type"]) if isinstance(dataset.get("type"), str) else dataset.get("type")


def _classes_of(datasets: list[Any]) -> tuple[str, ...]:
    """The classes of all folders that are there, in the order of the loaders and of their files."""
    names: dict[str, None] = {}
    for dataset in datasets:
        own = (dataset.get("metainfo") or {}).get("classes")
        path = Path(dataset.get("data_root") or "", dataset.get("ann_file") or "annotations/train.json")
        if own:
            names.update(dict.fromkeys([own] if isinstance(own, str) else own))
        elif path.is_file():
            names.update(dict.fromkeys(_kind(dataset).classes_in(read_split(path, empty=True), dataset)))
    return tuple(names)


def _require_names(named: Any, class_map: Any) -> None:
    if named is not None and (
        not isinstance(named, list | tuple) or not named or not all(isinstance(one, str) for one in named)
    ):
        raise ConfigError(f"classes: expected a tuple of names, got {named!r}")
    if named and len(set(named)) < len(named):
        raise ConfigError(f"classes: a name stands twice in {tuple(named)!r}")
    if class_map is not None and not isinstance(class_map, Mapping):
        raise ConfigError(f"class_map: expected a dict of names, got {class_map!r}")
