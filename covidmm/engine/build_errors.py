"""What a constructor raised, while a config was built, as one line that names its class."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.registry import build_functions

from covidmm.errors import ConfigError

#: What constructors raise for arguments that they cannot work with; other errors are no one's config.
_RAISED = (TypeError, ValueError, KeyError, IndexError, AttributeError, AssertionError, NotImplementedError)


@contextmanager
def build_errors_named() -> Iterator[None]:
    """Turn an error of a registered class's constructor into a :class:`ConfigError`; all others pass.

    Raises:
        ConfigError: with the class, and what it said.
    """
    try:
        yield
    except FileNotFoundError as error:
        if (built := _built(error)) is None:
            raise
        raise ConfigError(f"{error.filename}: no such file, needed by {built}") from error
    except _RAISED as error:
        if (built := _built(error)) is None:
            raise
        # an assertion without words says what it asserts
        said = " ".join(str(error).split()) or traceback.extract_tb(error.__traceback__)[-1].line
        raise ConfigError(f"{built} cannot be built from the config: {type(error).__name__}: {said}") from error


def _built(error: BaseException) -> str | None:
    """The class that MMEngine was building, the innermost one, where an error was raised; None where it built none."""
    kind: Any = None
    step = error.__traceback__
    while step is not None:
        if step.tb_frame.f_code is build_functions.build_from_cfg.__code__:
            kind = step.tb_frame.f_locals.get("obj_cls", kind)
        step = step.tb_next
    return getattr(kind, "__name__", None)
