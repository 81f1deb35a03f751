"""Read config files as MMEngine does, apply overrides, and refuse keys that nothing reads.

MMEngine accepts any key: ``trian_cfg.max_epochs=1`` would train for 50 epochs without a warning.
"""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Collection, Sequence
from copy import deepcopy
from pathlib import Path

from mmengine.config import Config, DictAction

from covidmm.engine.config_files import files_of, refuse_unread, used_at
from covidmm.engine.config_imports import add_registration, import_custom
from covidmm.engine.config_keys import Checker
from covidmm.engine.config_values import Judge, Override, as_tuples, check_values, settled, short, value_at
from covidmm.engine.console import quiet_reading
from covidmm.engine.data_classes import follow_data
from covidmm.engine.data_paths import find_data
from covidmm.engine.hooks import pretrained_checkpoint
from covidmm.errors import ConfigError
from covidmm.utils.packaged_configs import config_path


def load_config(path: str | Path, options: Sequence[str] = ()) -> Config:
    """Load a config file, apply overrides and refuse every key that nothing reads.

    The config has no variables of its files any more, such as ``train_pipeline``, so that a dump of it can be loaded.

    Args:
        path: config file, or one of a package as ``covidmm::NAME.py``.
        options: overrides, each ``dotted.key=value``.

    Raises:
        ConfigError: the file or a base of it is missing or broken; an unknown key or type, with the nearest
            existing name; an override of another type than the value that it replaces.
    """
    path = config_path(path)
    cfg = read_config(path)
    if "members" in cfg and "model" not in cfg:
        raise ConfigError(
            f"{path}: is the config of an ensemble, which tools/ensemble.py and tools/serve.py read; "
            "expected the config of one model, such as those that its members name"
        )
    variables, overrides = merge_options(cfg, options)
    add_registration(cfg)
    files = files_of(cfg)
    import_custom(cfg, path, files)
    refuse_unread(files, Checker.top_level_keys())
    checker = Checker(cfg, variables, files)
    settle(cfg, overrides, checker.judge)
    find_data(cfg, files)
    follow_data(cfg)
    check_values(cfg)
    checker.check()
    as_tuples(cfg, checker.judge)
    _check_pretrained(cfg)
    for name in variables & set(cfg):  # they have done their work; in the file that a run dumps nothing would read them
        cfg.pop(name)
    return cfg


def read_config(path: Path) -> Config:
    """Read a config file with its bases, unchecked, and without its ``custom_imports``.

    Raises:
        ConfigError: the file or a base of it is missing or broken.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such config file")
    try:
        with quiet_reading():
            cfg = Config.fromfile(str(path), import_custom_modules=False)
    except SyntaxError as error:
        raise ConfigError(f"{path}: line {error.lineno}: {error.msg}") from error
    except Exception as error:  # a config is a program: anything can come out of it
        cause = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"{path}: {type(error).__name__}: {cause}") from error
    # MMEngine formats a config five times as a training starts, by yapf in 0.3 s each time; fromfile's own option to
    # leave that out has no effect (MMEngine 0.10)
    return Config(
        cfg.to_dict(),
        cfg_text=cfg.text,
        filename=cfg.filename,
        env_variables=cfg.env_variables,
        format_python_code=False,
    )


def merge_options(
    cfg: Config, options: Sequence[str], no_variables: Collection[str] = ()
) -> tuple[frozenset[str], list[Override]]:
    """Apply overrides, each ``dotted.key=value``; :func:`settle` checks their types.

    Args:
        cfg: is changed.
        options: the overrides.
        no_variables: names that are none, though a file reads them too, beside those that the runner reads.

    Returns:
        The names of the file's own variables, and the overrides.

    Raises:
        ConfigError: an override of nothing, or of a variable.
    """
    variables = _variables_of(cfg) - set(no_variables)
    keys = no_variables or Checker.top_level_keys()
    return variables, [_override(cfg, text, variables, keys) for text in options]


def settle(cfg: Config, overrides: Sequence[Override], judge: Judge = lambda key, value: None) -> None:
    """Compare the type of every override with what it replaced, and give it that type where it means the same.

    Args:
        cfg: has the overrides; is changed.
        overrides: of :func:`merge_options`.
        judge: what the annotation of an argument says.

    Raises:
        ConfigError: an override of another type than the value that it replaces.
    """
    for override in overrides:
        value = settled(override, judge)
        if type(value) is not type(override.value) or value != override.value:
            cfg.merge_from_dict({override.key: value})


def _check_pretrained(cfg: Config) -> None:
    hooks = [*(cfg.get("default_hooks") or {}).values(), *(cfg.get("custom_hooks") or ())]
    if pretrained_checkpoint(cfg) and not any(hook and hook.get("type") == "PretrainedHook" for hook in hooks):
        raise ConfigError("pretrained: nothing reads it; default_hooks lacks pretrained=dict(type='PretrainedHook')")


def _override(cfg: Config, text: str, variables: frozenset[str], keys: Collection[str]) -> Override:
    """Apply one ``key=value``."""
    key, equals, _ = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"--cfg-options {text}: is not KEY=VALUE")
    top = key.split(".")[0]
    if top in variables:
        places = used_at(files_of(cfg), top, keys)
        raise ConfigError(
            f"--cfg-options {key}: '{top}' is a variable of the config file, already used when it was read; "
            f"override the place where it is used{': ' if places else ''}{', '.join(places[:4])}"
        )
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--options", nargs="+", action=DictAction)
    try:
        parsed = parser.parse_args(["--options", text]).options
        override = Override(text, key, deepcopy(value_at(cfg, key)), parsed[key])
        cfg.merge_from_dict(parsed)
    except AttributeError as error:  # MMEngine merges into an entry of a list, whatever it is
        whole = key.rpartition(".")[0]
        raise ConfigError(
            f"--cfg-options {text}: of an entry of a list, only keys below it can be set, as {key}.KEY=VALUE; "
            f"give the whole list, as {whole}=..., which is {short(value_at(cfg, whole))}"
        ) from error
    except RecursionError as error:  # MMEngine's reading of brackets that do not begin the value
        raise ConfigError(
            f"--cfg-options {text}: a dict is set key by key, as {key}.KEY=VALUE; a list is [a,b] or (a,b)"
        ) from error
    except (KeyError, TypeError, IndexError, ValueError, argparse.ArgumentError, AssertionError) as error:
        cause = re.sub(r"(exceeds the length of list) .*", r"\1", " ".join(str(error).split()).strip('"'))
        raise ConfigError(f"--cfg-options {text}: {cause}") from error
    return override


def _variables_of(cfg: Config) -> frozenset[str]:
    """Top-level names that the config's files read themselves, and the runner does not: ``train_pipeline``, ..."""
    # mmengine keeps the text of the file and of all its bases, in this form
    read = set(re.findall(r"_base_\.(\w+)", cfg.text))
    for part in re.split(r"^.+\.py$", cfg.text, flags=re.MULTILINE):
        try:
            tree = ast.parse(re.sub(r"\{\{.*?\}\}", "''", part))
        except SyntaxError:
            continue
        read |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    return frozenset(read & set(cfg)) - Checker.top_level_keys()
