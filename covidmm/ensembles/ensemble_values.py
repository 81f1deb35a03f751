"""Values of an ensemble's config, checked one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from covidmm.ensembles.accepted_images import Accepts
from covidmm.errors import ConfigError, did_you_mean


def accepts_of(path: Path, value: Any) -> Accepts:
    """What ``accepts`` says; ConfigError where it is no dict of its keys."""
    if value is not None and not isinstance(value, Mapping):
        raise ConfigError(f"{path}: accepts must be a dict or None, not {value!r}")
    values = {key: own for key, own in (value or {}).items() if key != "_delete_"}
    try:
        return made(Accepts, values, " in accepts")
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def class_names(path: Path, value: Any) -> tuple[str, ...] | None:
    """What ``classes`` says; ConfigError where it is no tuple of distinct names."""
    if value is None:
        return None
    if not isinstance(value, list | tuple) or not value or not all(isinstance(one, str) and one for one in value):
        raise ConfigError(f"{path}: classes must be a tuple of names, or None, not {value!r}")
    if len(set(value)) < len(value):
        raise ConfigError(f"{path}: classes: a name stands twice in {tuple(value)!r}")
    return tuple(value)


def class_codes(path: Path, value: Any) -> dict[str, tuple[str, str, str]]:
    """What ``class_codes`` says; ConfigError where a code is not value, scheme and meaning."""
    if value is not None and not isinstance(value, Mapping):
        raise ConfigError(f"{path}: class_codes must be a dict, not {value!r}")
    found = {name: code for name, code in (value or {}).items() if name != "_delete_"}
    for name, code in found.items():
        three = isinstance(code, list | tuple) and len(code) == 3 and all(isinstance(one, str) and one for one in code)
        if not three or len(code[0]) > 16 or len(code[1]) > 16 or len(code[2]) > 64:
            raise ConfigError(
                f"{path}: class_codes['{name}']: expected value, scheme (at most 16 letters) and meaning, got {code!r}"
            )
    return {name: tuple(code) for name, code in found.items()}


def made(kind: Callable[..., Any], values: Mapping[str, Any], where: str = "") -> Any:
    """A dataclass of a config's dict, which has its fields and no others."""
    known = {one.name: one for one in fields(kind)}
    for key in values:
        if key not in known:
            raise ConfigError(f"unknown key '{key}'{where}{did_you_mean(key, known)}")
    for name, one in known.items():
        if one.default is MISSING and one.default_factory is MISSING and name not in values:
            raise ConfigError(f"has no '{name}'")
    return kind(**values)
