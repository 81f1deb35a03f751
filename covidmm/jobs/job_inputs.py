"""What a job needs of its config, checked before the work: parts, annotation files, metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

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
                    raise DataError(
                        f"{path}: no such file, named by {place}; expected annotations as tools/prepare.py makes"
                    )


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
