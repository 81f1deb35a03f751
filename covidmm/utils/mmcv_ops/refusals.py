"""What is said of an op that is not served."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

HOW_TO_COMPILE = (
    "install a C++ compiler (and the CUDA toolkit for GPU ops), then run "
    "`pip install --force-reinstall --no-deps --no-build-isolation --no-binary :all: onedl-mmcv` "
    "with MMCV_WITH_OPS=1 in the environment"
)
#: A call of a compiled op in MMCV's source.
_CALL = re.compile(r"\bext_module\.(\w+)\(")


class OpNotServedError(NotImplementedError):
    """An op of MMCV that only a compiled one has."""


def not_served(name: str) -> OpNotServedError:
    """The error for an op that is missing here: who called it, and the way to a compiled one."""
    caller = _caller()
    called = f", called by {caller}," if caller else ""
    return OpNotServedError(
        f"mmcv op '{name}'{called} is not served by covidmm.utils.mmcv_ops and this mmcv was not compiled: "
        f"{HOW_TO_COMPILE}"
    )


def ops_not_served(model: Any, served: Collection[str]) -> Iterator[tuple[str, str]]:
    """Modules of a model that need a compiled MMCV.

    Args:
        model: a :class:`torch.nn.Module`.
        served: the names of the ops that need none.

    Yields:
        The module's name in the model, and a sentence on its class and the first op that is missing.
    """
    for name, module in model.named_modules():
        for cls in type(module).__mro__:
            if not cls.__module__.startswith("mmcv.ops."):
                continue
            missing = sorted(_called_by(sys.modules[cls.__module__].__file__) - set(served))
            if missing:
                yield name, f"{cls.__name__} needs mmcv's op '{missing[0]}'"
            break


def suppressions_not_served(config: Any, served: Collection[str], path: str) -> Iterator[tuple[str, str]]:
    """Suppressions in a ``test_cfg`` or ``train_cfg`` that need a compiled MMCV.

    Args:
        config: the dict, or a part of one.
        served: the names of the ops that need none.
        path: where it stands.

    Yields:
        The suppression's place, and a sentence on the first op that is missing.
    """
    if isinstance(config, list | tuple):
        for index, one in enumerate(config):
            yield from suppressions_not_served(one, served, f"{path}.{index}")
    elif isinstance(config, Mapping):
        function = getattr(sys.modules.get("mmcv.ops"), str(config.get("type")), None)
        if path.endswith(("nms", "nms_cfg")) and inspect.isfunction(function):
            missing = sorted(set(re.findall(_CALL, inspect.getsource(function))) - set(served))
            if missing:
                yield path, f"{config['type']} needs mmcv's op '{missing[0]}'"
        for key, value in config.items():
            yield from suppressions_not_served(value, served, f"{path}.{key}")


@lru_cache
def _called_by(file: str) -> frozenset[str]:
    """The ops that a module of ``mmcv.ops`` calls, by its source."""
    return frozenset(re.findall(_CALL, Path(file).read_text(encoding="utf-8")))


def _caller() -> str | None:
    """The innermost module of a network that is being called: its class and its file's name."""
    frame = sys._getframe(1)
    while frame is not None:
        self = frame.f_locals.get("self")
        if self is not None and hasattr(self, "named_modules") and not type(self).__module__.startswith("mmcv.ops"):
            return f"{type(self).__module__}.{type(self).__name__}"
        frame = frame.f_back
    return None
