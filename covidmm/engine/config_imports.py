"""Import what a config names in ``custom_imports``, and covidmm's own plugins with it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.utils import import_modules_from_strings

from covidmm.errors import ConfigError
from covidmm.utils.config_modules import folder_of, folders_first, lies_in

#: The module that registers covidmm's own classes; a name, since every package comes before it.
REGISTRATION = "covidmm.registration"


def add_registration(cfg: Config) -> None:
    """Name covidmm's own plugins in a config's ``custom_imports``, which a file of one's own replaces.

    Args:
        cfg: is changed, so that a checkpoint's config has them too.
    """
    found = cfg.get("custom_imports") or {}
    if not isinstance(found, dict):
        raise ConfigError(f"custom_imports must be a dict with 'imports', a list of module names, not {found!r}")
    names = _names(found)
    if REGISTRATION not in names:
        cfg["custom_imports"] = {"allow_failed_imports": False, **found, "imports": [REGISTRATION, *names]}


def import_custom(cfg: Config, path: Path, files: Sequence[str]) -> None:
    """Import the modules of ``custom_imports``, from the folders of the config's own files or from ``sys.path``.

    Args:
        cfg: the config.
        path: its file, for messages.
        files: every file that it is made of, the deepest base first.

    Raises:
        ConfigError: a module is missing or fails, or another one of its name was imported from another folder.
    """
    found = cfg.get("custom_imports") or {}
    import_modules(_names(found), path, files, bool(found.get("allow_failed_imports", False)))


def imported_modules(cfg: Config) -> tuple[str, ...]:
    """The modules of ``custom_imports`` that could be imported, without covidmm's own."""
    return tuple(one for one in _names(cfg.get("custom_imports") or {}) if one in sys.modules and one != REGISTRATION)


def import_modules(
    names: Sequence[str], path: Path, files: Sequence[str], may_fail: bool = False, where: str = "custom_imports"
) -> None:
    """Import modules from the folders of a config's own files or from ``sys.path``.

    Args:
        names: of the modules.
        path: the config's file, for messages.
        files: as :func:`import_custom`.
        may_fail: leave out one that cannot be imported, with a warning.
        where: the key that names them, for messages.

    Raises:
        ConfigError: as :func:`import_custom`.
    """
    folders = list(dict.fromkeys(Path(file).resolve().parent for file in [str(path), *reversed(files)]))
    for name in names:
        _refuse_another(name, path, folders, where)
        at = [folder for folder in folders if lies_in(name, folder)]
        try:
            with folders_first(at):
                import_modules_from_strings([name], may_fail)
        except Exception as error:  # a module is a program: anything can come out of it
            raise ConfigError(f"{path}: {where}: {_why(name, path, error)}") from error


def _names(found: dict[str, Any]) -> list[str]:
    names = found.get("imports") or []
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"custom_imports.imports must be a list of module names, not {names!r}")
    return list(names)


def _refuse_another(name: str, path: Path, folders: list[Path], where: str) -> None:
    """A process has one module of a name: another config's must not pass for this one's."""
    top = name.split(".", maxsplit=1)[0]
    there, own = folder_of(name), next((folder for folder in folders if lies_in(name, folder)), None)
    if top not in sys.modules or there == own:
        return
    if there is None:
        there = Path(getattr(sys.modules[top], "__file__", None) or "?").resolve().parent
        if there in (own, own / top if own else None):
            return
    elif own is None and there not in folders:
        raise ConfigError(f"{path}: {where}: no module named '{name}' here; {there} has one, for the configs in it")
    if own is not None:
        raise ConfigError(
            f"{path}: {where}: '{name}' is in {own}, but another module of that name was imported from {there}; "
            "rename one of them"
        )


def _why(name: str, path: Path, error: Exception) -> str:
    """What failed, and where: the module itself, or something that it imports."""
    cause = error.__context__ if isinstance(error, ImportError) and error.__context__ else error
    text = " ".join(str(cause).split()) or type(cause).__name__
    lacks = cause.name if isinstance(cause, ModuleNotFoundError) else None
    if lacks and (name == lacks or name.startswith(f"{lacks}.")):
        return f"no module named '{lacks}', neither in {path.resolve().parent} nor on PYTHONPATH"
    if lacks:
        return f"'{name}' needs the module '{lacks}', which is not installed"
    return f"'{name}' fails as it is imported: {type(cause).__name__}: {text}"
