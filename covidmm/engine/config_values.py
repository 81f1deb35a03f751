"""Check values of a config: the type of an override, and numbers that loops, loaders and optimisers need.

An override is compared with the value that it replaces. Where the two are of different kinds, the annotation of the
argument decides, as far as it has one and the replaced value agrees with it.
"""

from __future__ import annotations

import inspect
import logging
import multiprocessing
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config

from covidmm.errors import ConfigError

#: What an annotation says of an argument: whether it takes a value, or None where it does not tell.
Judge = Callable[[str, Any], bool | None]


def value_at(cfg: Any, key: str) -> Any:
    """What a config has at a dotted key, entries of lists by number; None where there is nothing."""
    for part in key.split("."):
        if isinstance(cfg, list | tuple) and part.isdigit() and int(part) < len(cfg):
            cfg = cfg[int(part)]
        elif isinstance(cfg, Config | dict) and part in cfg:
            cfg = cfg[part]
        else:
            return None
    return cfg


@dataclass(frozen=True)
class Override:
    """One ``KEY=VALUE`` of the command line.

    Attributes:
        text: as it was given.
        key: dotted.
        present: what it replaces; None where there was nothing.
        value: as MMEngine reads it.
    """

    text: str
    key: str
    present: Any
    value: Any


def settled(override: Override, judge: Judge) -> Any:
    """The value of an override in the type that its place needs: a tuple for a tuple, text for text.

    Raises:
        ConfigError: it is of another kind than what it replaces, and the place does not take that.
    """
    present, value, key = override.present, _like(override.present, override.value), override.key
    if value is None:
        return value
    told = (
        present is None or judge(key, present) is not False
    )  # else the annotation is wrong about the file's own value
    raw = override.text.partition("=")[2]
    if told and judge(key, value) is False:
        if isinstance(value, list) and judge(key, tuple(value)):
            return tuple(value)
        if type(value) in (int, float) and judge(key, raw):
            return raw
    admitted = judge(key, value) if told else None
    if present is None:
        fits = not (isinstance(value, str) and admitted is False)
    else:
        fits = admitted or (admitted is None and _same(present, value))
    if not fits:
        was = "" if present is None else f"{key} is {short(present)}, "
        raise ConfigError(f"--cfg-options {override.text}: {was}expected {_expected(override)}, got {short(value)}")
    return value


def _expected(override: Override) -> str:
    present = override.present
    if present is None:
        return "another type"
    if isinstance(present, Mapping):
        return f"a dict or keys below it, as {override.key}.KEY=VALUE"
    if isinstance(present, list | tuple) and present and all(isinstance(one, int | float) for one in present):
        numbers = ",".join(map(str, present))
        return f"{_kind(present)} of numbers, as {override.key}={numbers if len(present) > 1 else f'[{numbers}]'}"
    if type(present) is int and isinstance(override.value, float):
        return "an integer"
    return _kind(present)


def as_tuples(cfg: Config, judge: Judge) -> None:
    """Turn a list into a tuple where a transform's argument is annotated as a tuple: MMCV asks for the type.

    Args:
        cfg: is changed, in the pipelines of its data.
        judge: as for :func:`settled`.
    """

    def visit(value: Any, path: str) -> None:
        for key, item in _items(value):
            below = f"{path}.{key}"
            visit(item, below)
            if isinstance(item, list) and isinstance(value, dict) and judge(below, item) is False:
                converted = tuple(item)
                if judge(below, converted):
                    value[key] = converted

    for name in ("train_dataloader", "val_dataloader", "test_dataloader", "tta_pipeline"):
        visit(cfg.get(name), name)


def _whole(least: int, *also: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and (value >= least or value in also)


def _number(least: float, most: float = float("inf"), above: bool = False) -> Callable[[Any], bool]:
    def fits(value: Any) -> bool:
        return type(value) in (int, float) and least <= value <= most and not (above and value == least)

    return fits


def _share(value: Any) -> bool:
    numbers = value if isinstance(value, list | tuple) else [value]
    return all(_number(0, 1)(one) for one in numbers)


def _built(value: Any) -> bool:
    return isinstance(value, list | tuple) or (isinstance(value, Mapping) and "type" in value)


_LEVELS = tuple(logging.getLevelNamesMapping())
_STARTS = tuple(multiprocessing.get_all_start_methods())

#: Pattern of a dotted key, what its value must fulfil, and that in words. None passes but in the first four.
_RULES: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    (r"train_cfg\.(max_epochs|max_iters)", _whole(1), "a positive integer"),
    # MMEngine takes remainders by it, so that 500.0 does
    (r"train_cfg\.val_interval", lambda value: _number(1)(value) and value == int(value), "a positive integer"),
    (r"(train|val|test)_dataloader\.batch_size", _whole(1), "a positive integer"),
    (r"(train|val|test)_dataloader\.dataset", _built, "a dict with a type"),
    (r"train_cfg\.val_begin", _whole(0), "an integer of 0 or more"),
    (r"(train|val|test)_dataloader\.num_workers", _whole(0), "an integer of 0 or more"),
    (r"(train|val|test)_dataloader\.(prefetch_factor|num_batch_per_epoch)", _whole(1), "a positive integer"),
    (r"(train|val|test)_dataloader\.(.+\.)?times", _whole(1), "a positive integer"),
    (r"(train|val|test)_dataloader\..+\.prob", _share, "a number between 0 and 1"),
    (r"optim_wrapper\.accumulative_counts", _whole(1), "a positive integer"),
    (r"optim_wrapper\.optimizer\.lr", _number(0, above=True), "a positive number"),
    (r"optim_wrapper\.optimizer\.weight_decay", _number(0), "a number of 0 or more"),
    (
        r"optim_wrapper\.optimizer\.momentum",
        lambda value: _number(0, 1)(value) and value < 1,
        "a number of 0 to below 1",
    ),
    (r"optim_wrapper\.clip_grad\.max_norm", _number(0, above=True), "a positive number"),
    (r"(val|test)_evaluator(\.\d+)?", _built, "a dict with a type, or a list of them"),
    (r"log_level", lambda value: value in _LEVELS, f"one of {', '.join(_LEVELS)}"),
    (r"env_cfg\.mp_cfg\.mp_start_method", lambda value: value in _STARTS, f"one of {', '.join(_STARTS)}"),
    (r"test_time_augmentation", lambda value: isinstance(value, bool), "True or False"),
    (r"randomness\.seed", _whole(0), "an integer of 0 or more"),
    (r"default_hooks\.(checkpoint|logger)\.interval", _whole(1, -1), "a positive integer"),
    (r"default_hooks\.checkpoint\.max_keep_ckpts", _whole(1, -1), "a positive integer, or -1 for all"),
    (r"model\.(.+\.)?(max_per_img|nms_pre)", _whole(1, -1), "a positive integer, or -1 for all"),
    (r"model\.(.+\.)?score_thr", _number(-1, 1), "a number of -1 to 1"),
    (r"model\.(.+\.)?(iou_threshold|pos_iou_thr|neg_iou_thr|min_pos_iou)", _share, "a number between 0 and 1"),
    (r"model\.(.+\.)?num_classes", _whole(1), "a positive integer"),
)
_NEVER_NONE = {rule[0] for rule in _RULES[:4]}


def check_values(cfg: Config) -> None:
    """Check what loops, loaders, optimisers and heads need, wherever it was written.

    Raises:
        ConfigError: a value that they would fail by, or silently do nothing with.
    """
    for name in ("model", "train_dataloader", "val_dataloader", "test_dataloader", "train_cfg", "optim_wrapper"):
        if name in cfg and not isinstance(cfg[name], dict) and (cfg[name] is not None or name == "model"):
            raise ConfigError(f"{name} must be a dict, not {short(cfg[name])}")
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        loader = cfg.get(name) or {}
        for key in ("persistent_workers", "prefetch_factor"):
            if loader.get(key) and loader.get("num_workers", 0) == 0:
                raise ConfigError(f"{name}.num_workers is 0, with which {name}.{key} must be unset, not {loader[key]}")
    for path, value in _walk(cfg.to_dict(), ""):
        for pattern, fits, expected in _RULES:
            if not re.fullmatch(pattern, path) or (value is None and pattern not in _NEVER_NONE):
                continue
            if not fits(value):
                raise ConfigError(f"{path} must be {expected}, not {short(value)}")


def judged(kind: Any, key: str, value: Any) -> bool | None:
    """Whether the annotation of an argument takes a value; None where it does not tell.

    Args:
        kind: the class or function.
        key: the argument.
        value: as a config has it; a list passes for a sequence.
    """
    for base in getattr(kind, "__mro__", (kind,)):
        function = base.__dict__.get("__init__") if inspect.isclass(base) else base
        if function is None or base is object:
            continue
        try:
            hints = typing.get_type_hints(function)
        except (NameError, TypeError, AttributeError):
            return None
        if key in hints:
            return _takes(hints[key], value)
    return None


def _takes(hint: Any, value: Any) -> bool | None:
    origin, inner = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        found = [_takes(one, value) for one in inner]
        return True if True in found else None if None in found else False
    if origin in _FITS:
        return _FITS[origin](value)
    if origin is tuple:
        return isinstance(value, tuple) and (not inner or Ellipsis in inner or len(inner) == len(value))
    if isinstance(origin, type) and issubclass(origin, Mapping | Sequence):
        return isinstance(value, Mapping if issubclass(origin, Mapping) else list | tuple)
    return None


#: What a plain annotation takes; an integer passes for a float.
_FITS: dict[Any, Callable[[Any], bool]] = {
    bool: lambda value: isinstance(value, bool),
    str: lambda value: isinstance(value, str),
    int: lambda value: type(value) is int,
    float: lambda value: type(value) in (int, float),
    type(None): lambda value: value is None,
}


def _same(present: Any, value: Any) -> bool:
    """Whether two values are of one kind; a number for a number, a sequence for a sequence of its kind."""
    if isinstance(present, bool) or isinstance(value, bool):
        return isinstance(present, bool) and isinstance(value, bool)
    if isinstance(present, list | tuple) and isinstance(value, list | tuple):
        numbers = bool(present) and all(isinstance(one, int | float) for one in present)
        return not numbers or all(isinstance(one, int | float) for one in value)
    kinds: tuple[Any, ...] = (int | float, str, Mapping)
    return any(isinstance(present, kind) and isinstance(value, kind) for kind in kinds)


def _like(present: Any, value: Any) -> Any:
    """A sequence in the type of another one, at both levels."""
    if not isinstance(value, list | tuple) or not isinstance(present, list | tuple):
        return value
    inner = {type(one) for one in present}
    if inner in ({list}, {tuple}):
        value = [next(iter(inner))(one) if isinstance(one, list | tuple) else one for one in value]
    return type(present)(value)


def _kind(value: Any) -> str:
    for kind, words in (
        (bool, "True or False"), (int | float, "a number"), (str, "text"), (tuple, "a tuple"), (list, "a list"),
        (Mapping, "a dict"), (type(None), "None"),
    ):  # fmt: skip
        if isinstance(value, kind):
            return words
    return type(value).__name__


def short(value: Any) -> str:
    """A value as an error shows it: on one line, at most 60 characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def _items(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        return list(value.items())
    return list(enumerate(value)) if isinstance(value, list | tuple) else []


def _walk(value: Any, path: str) -> typing.Iterator[tuple[str, Any]]:
    for key, item in _items(value):
        below = f"{path}.{key}" if path else str(key)
        yield below, item
        yield from _walk(item, below)
