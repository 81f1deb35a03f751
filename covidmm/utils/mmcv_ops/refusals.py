"""What is said of an op that is not served."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

HOW_TO_COMPILE = (
    "install a C++ compiler (and the CUDA toolkit for GPU ops), then run "
    "`pip install --force-reinstall --no-deps --no-build-isolation --no-binary :all: onedl-mmcv` "
    "with MMCV_WITH_OPS=1 in the environment"
)


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


@lru_cache
def _called_by(file: str) -> frozenset[str]:
    """The ops that a module of ``mmcv.ops`` calls, by its source."""
    return frozenset(re.findall(r"\bext_module\.(\w+)\(", Path(file).read_text(encoding="utf-8")))


def _caller() -> str | None:
    """The innermost module of a network that is being called: its class and its file's name."""
    frame = sys._getframe(1)
    while frame is not None:
        self = frame.f_locals.get("self")
        if self is not None and hasattr(self, "named_modules") and not type(self).__module__.startswith("mmcv.ops"):
            return f"{type(self).__module__}.{type(self).__name__}"
        frame = frame.f_back
    return None
