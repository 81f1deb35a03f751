"""Modules that lie beside a config file, imported without a place on ``sys.path``.

``sys.path`` is of the whole process, and another config may have a module of the same name. A finder knows the few
modules that were imported from a config's folder;
the environment hands them on to data-loader workers that are spawned.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

#: Environment variable with the modules of config folders, as JSON: name -> folder.
VARIABLE = "COVIDMM_CONFIG_MODULES"


def install() -> None:
    """Find the modules that a parent process imported from its config's folder. Safe to call again."""
    if os.environ.get(VARIABLE) and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())


def folder_of(name: str) -> Path | None:
    """The config folder that a module was imported from, None for every other module."""
    folder = _known().get(name.split(".", maxsplit=1)[0])
    return Path(folder) if folder else None


def lies_in(name: str, folder: Path) -> bool:
    """Whether a folder has a module or package of this name."""
    top = folder / name.split(".", maxsplit=1)[0]
    return top.with_suffix(".py").is_file() or top.is_dir()


@contextmanager
def folders_first(folders: Sequence[Path]) -> Iterator[None]:
    """Look for modules in these folders before all others, for the length of a block, and remember what was found."""
    before, modules = list(sys.path), set(sys.modules)
    sys.path[:0] = [str(folder) for folder in folders]
    try:
        yield
    finally:
        sys.path[:] = before
        known = _known()
        for name in set(sys.modules) - modules:
            place = _place(sys.modules[name])
            if "." not in name and place in folders:
                known[name] = str(place)
        if known:
            os.environ[VARIABLE] = json.dumps(known)
            install()


class _Finder(MetaPathFinder):
    """Comes after Python's own, so that it serves only what nothing else has."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        folder = None if path else folder_of(fullname)
        return PathFinder.find_spec(fullname, [str(folder)]) if folder else None


def _known() -> dict[str, str]:
    return dict(json.loads(os.environ.get(VARIABLE) or "{}"))


def _place(module: ModuleType) -> Path | None:
    """The folder that holds a top-level module or package."""
    file = getattr(module, "__file__", None)
    if file:
        parent = Path(file).resolve().parent
        return parent.parent if Path(file).name == "__init__.py" else parent
    paths = list(getattr(module, "__path__", ()))
    return Path(paths[0]).resolve().parent if paths else None
