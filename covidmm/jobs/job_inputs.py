"""What a job needs of its config, checked before the work: parts, annotation files, metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS
from mmengine.config import Config

from covidmm.datasets.annotations import read_annotations, require_classes, require_ids_for_coco_tools
from covidmm.datasets.prepared_datasets import OpacityDataset
from covidmm.engine.config_values import value_at
from covidmm.errors import ConfigError, DataError

#: covidmm's metrics, which can write predictions, and the prefix of their numbers.
_OWN = {"DetectionMetric": "detection", "LabelMetric": "study"}


def require_parts(cfg: Config, config: str | Path, parts: Sequence[str], work: str) -> None:
    """Refuse a config without a part that a job needs.

    Raises:
        ConfigError: with the part that is missing or None.
    """
    for part in parts:
        if cfg.get(part) is None:
            raise ConfigError(f"{config}: has no '{part}', which {work} needs")


def require_annotations(cfg: Config, splits: Sequence[str]) -> None:
    """Every annotation file that a data set or a metric of these splits names must be there.

    Args:
        cfg: the config.
        splits: ``train``, ``val``, ``test``.

    Raises:
        DataError: one is not, by its path and its key.
    """
    for split in splits:
        for key in (f"{split}_dataloader", f"{split}_evaluator"):
            for place, path in annotation_files(cfg.get(key), key):
                if not path.is_file():
                    owner = value_at(cfg, place.removesuffix(".ann_file"))
                    raise DataError(f"{path}: no such file, named by {place}; {_how_to_make(owner)}")


def _how_to_make(owner: Mapping[str, Any]) -> str:
    kind = owner.get("type")
    layout = getattr(DATASETS.get(kind) if isinstance(kind, str) else kind, "LAYOUT", None)
    if layout is None:
        return "expected annotations as tools/prepare.py makes"
    command = f"tools/prepare.py {layout} RAW {owner.get('data_root') or 'OUT'}"
    return f"make it with `{command}`, or let {layout.upper()}_ROOT point at a prepared folder"


def check_annotation_files(cfg: Mapping[str, Any], splits: Sequence[str]) -> None:
    """Read the annotation files of MMDetection's own COCO data sets, and of metrics, before anything is built.

    covidmm's data sets read theirs when they are built.

    Args:
        cfg: of a job.
        splits: of ``train``, ``val`` and ``test``, those that the job uses.

    Raises:
        DataError: a file is missing, damaged, or would be understood differently by MMDetection and the scores.
    """
    for split in splits:
        datasets = list(_dataset_configs((cfg.get(f"{split}_dataloader") or {}).get("dataset")))
        for dataset in datasets:
            kind = _dataset_type(dataset)
            if issubclass(kind, CocoDataset) and not issubclass(kind, OpacityDataset):
                path = Path(dataset.get("data_root") or "", dataset["ann_file"])
                names = [category["name"] for category in read_annotations(path)["categories"]]
                classes = (dataset.get("metainfo") or {}).get("classes", kind.METAINFO["classes"])
                require_classes(path, names, [classes] if isinstance(classes, str) else classes)
        evaluators = cfg.get(f"{split}_evaluator") or ()
        for one in [evaluators] if isinstance(evaluators, Mapping) else evaluators:
            # a missing file is told by the data set, which says how to make it
            kind, path = str(one.get("type")).rpartition(".")[2], one.get("ann_file")
            if kind == "CocoMetric" and path and Path(path).is_file():
                require_ids_for_coco_tools(path)
            elif kind == "DetectionMetric" and path and Path(path).is_file():
                _require_boxes_of_images(Path(path), datasets)


def _require_boxes_of_images(path: Path, datasets: Sequence[Mapping[str, Any]]) -> None:
    """Refuse the file of a metric that has no true box, or no image of the data sets that are evaluated."""
    content = read_annotations(path)
    if all(one.get("iscrowd") for one in content["annotations"]):
        raise DataError(f"{path}: no image has a true box; nothing can be scored by it")
    files = [Path(one.get("data_root") or "", one["ann_file"]) for one in datasets]
    if not files or not all(issubclass(_dataset_type(one), CocoDataset) for one in datasets):
        return
    if not all(file.is_file() for file in files):  # told by the data set, which says how to make it
        return
    evaluated = {image["id"] for file in files for image in read_annotations(file)["images"]}
    if not evaluated & {image["id"] for image in content["images"]}:
        raise DataError(f"{path}: has none of the images of {files[0]}, which are evaluated")


def _dataset_type(dataset: Mapping[str, Any]) -> type:
    """The class of a data set's config; ``object`` where that is unknown, which building it tells."""
    kind = DATASETS.get(dataset["type"]) if isinstance(dataset.get("type"), str) else dataset.get("type")
    return kind if isinstance(kind, type) else object


def _dataset_configs(dataset: Any) -> Iterator[Mapping[str, Any]]:
    """The data sets inside the wrappers of a config that have a local annotation file."""
    if not isinstance(dataset, Mapping):
        return
    for inner in [*(dataset.get("datasets") or ()), dataset.get("dataset")]:
        yield from _dataset_configs(inner)
    if dataset.get("ann_file") and not dataset.get("backend_args"):
        yield dataset


def annotation_files(part: Any, key: str) -> Iterator[tuple[str, Path]]:
    """The local annotation files that a part of a config names at any depth, with their dotted keys.

    Args:
        part: a data loader, data set, or metric as configs have them.
        key: its own.
    """
    if isinstance(part, list | tuple):
        for number, one in enumerate(part):
            yield from annotation_files(one, f"{key}.{number}")
    elif isinstance(part, Mapping):
        name = part.get("ann_file")
        remote = part.get("backend_args") or "://" in str(name)
        if isinstance(name, str) and name and not remote:
            # as MMEngine's BaseDataset joins them
            yield f"{key}.ann_file", Path(part.get("data_root") or "", name)
        for inner, value in part.items():
            yield from annotation_files(value, f"{key}.{inner}")


def own_metric(evaluators: Any) -> Any:
    """The first metric of covidmm among a config's evaluators, which can write predictions; None without one."""
    listed = evaluators if isinstance(evaluators, list | tuple) else [evaluators]
    return next((one for one in listed if metric_type(one) in _OWN), None)


def require_own_metric(cfg: Config, option: str) -> None:
    """Refuse an option that needs predictions in a file where no metric writes them.

    Raises:
        ConfigError: with the metrics that there are.
    """
    if own_metric(cfg.test_evaluator) is None:
        listed = cfg.test_evaluator if isinstance(cfg.test_evaluator, list | tuple) else [cfg.test_evaluator]
        there = ", ".join(metric_type(one) for one in listed)
        raise ConfigError(f"{option} needs {' or '.join(_OWN)} in test_evaluator, which has {there}")


def split_results(found: Mapping[str, Any], metric: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The numbers of covidmm's metric, without their prefix, and those of all others, with it."""
    prefix = f"{metric.get('prefix') or _OWN[metric_type(metric)]}/" if metric is not None else None
    own = {name.removeprefix(prefix): value for name, value in found.items() if prefix and name.startswith(prefix)}
    others = {name: value for name, value in found.items() if not (prefix and name.startswith(prefix))}
    return own, others


def metric_type(metric: Any) -> str:
    """The name of a metric's class, without the scope or module that a config may put before it."""
    kind = metric.get("type")
    return str(getattr(kind, "__name__", kind)).rpartition(".")[2]
