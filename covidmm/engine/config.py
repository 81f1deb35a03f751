"""Configs, read so that nothing in them is ignored: a key that nothing reads is an error.

MMEngine accepts any key: ``trian_cfg.max_epochs=1`` would train for 50 epochs without a word.
"""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction

from covidmm.engine.config_keys import Checker
from covidmm.engine.hooks import pretrained_checkpoint
from covidmm.errors import ConfigError


def load_config(path: str | Path, options: Sequence[str] = ()) -> Config:
    """Load a config file, apply overrides and refuse every key that nothing reads.

    Args:
        path: config file.
        options: overrides, each ``dotted.key=value``.

    Raises:
        ConfigError: the file or a base of it is missing or broken; an unknown key or type, with the nearest
            existing name; an override of another type than the value that it replaces.
    """
    cfg = read_config(Path(path))
    helpers = merge_options(cfg, options)
    Checker(cfg, helpers).check()
    _check_pretrained(cfg)
    return cfg


def read_config(path: Path) -> Config:
    """Read a config file with its bases, unchecked.

    Raises:
        ConfigError: the file or a base of it is missing or broken.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such config file")
    try:
        cfg = Config.fromfile(str(path))
    except SyntaxError as error:
        raise ConfigError(f"{path}: line {error.lineno}: {error.msg}") from error
    except ImportError as error:
        raise ConfigError(f"{path}: custom_imports: {' '.join(str(error).split())}") from error
    except Exception as error:  # a config is a program: anything can come out of it
        cause = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"{path}: {type(error).__name__}: {cause}") from error
    # MMEngine's text of a config is made five times a start; yapf, which only breaks its lines, takes 0.3 s each time.
    # The option of `fromfile` itself does not arrive (MMEngine 0.10).
    return Config(
        cfg.to_dict(),
        cfg_text=cfg.text,
        filename=cfg.filename,
        env_variables=cfg.env_variables,
        format_python_code=False,
    )


def merge_options(cfg: Config, options: Sequence[str]) -> frozenset[str]:
    """Apply overrides, each ``dotted.key=value``; returns the names that are mere helpers of the file.

    Raises:
        ConfigError: an override of nothing, of a helper, or of another type than the value that it replaces.
    """
    helpers = _helper_names(cfg)
    for text in options:
        _override(cfg, text, helpers)
    return helpers


def _check_pretrained(cfg: Config) -> None:
    hooks = [*cfg.get("default_hooks", {}).values(), *cfg.get("custom_hooks", ())]
    if pretrained_checkpoint(cfg) and not any(hook and hook.get("type") == "PretrainedHook" for hook in hooks):
        raise ConfigError("pretrained: nothing reads it; default_hooks lacks pretrained=dict(type='PretrainedHook')")


def _override(cfg: Config, text: str, helpers: frozenset[str]) -> None:
    """Apply one ``key=value``, whose key must lead to something that is there or that may be there."""
    key, equals, _ = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"--cfg-options {text}: is not KEY=VALUE")
    top = key.split(".")[0]
    if top in helpers:
        raise ConfigError(
            f"--cfg-options {key}: '{top}' is a helper of the config file, already used when it was read; "
            "override the place that it fills, such as train_dataloader.dataset.pipeline"
        )
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--options", nargs="+", action=DictAction)
    try:
        parsed = parser.parse_args(["--options", text]).options
        present = _present(cfg, key)
        value = parsed[key]
        if isinstance(present, bool | int | float) and isinstance(value, str):
            raise ConfigError(f"--cfg-options {text}: {key} is {present!r}, expected a number, got '{value}'")
        cfg.merge_from_dict(parsed)
    except (KeyError, TypeError, IndexError, ValueError, argparse.ArgumentError, AssertionError) as error:
        raise ConfigError(f"--cfg-options {text}: {' '.join(str(error).split())}") from error


def _present(cfg: Any, key: str) -> Any:
    for part in key.split("."):
        if isinstance(cfg, list | tuple) and part.isdigit() and int(part) < len(cfg):
            cfg = cfg[int(part)]
        elif isinstance(cfg, Config | dict) and part in cfg:
            cfg = cfg[part]
        else:
            return None
    return cfg


def _helper_names(cfg: Config) -> frozenset[str]:
    """Top-level names that the config's files read themselves: ``train_pipeline``, ``vis_backends``, ...

    Whatever the runner reads too does not count as a helper; see :mod:`covidmm.engine.config_keys`.
    """
    # mmengine keeps the text of the file and of all its bases, in this form
    read = set(re.findall(r"_base_\.(\w+)", cfg.text))
    for part in re.split(r"^.+\.py$", cfg.text, flags=re.MULTILINE):
        try:
            tree = ast.parse(re.sub(r"\{\{.*?\}\}", "''", part))
        except SyntaxError:
            continue
        read |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    return frozenset(read & set(cfg)) - Checker.top_level_keys()
