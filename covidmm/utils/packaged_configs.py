"""Configs that come with a package, named as ``package::folder/name.py`` where a config file may be named.

MMEngine knows ``mmdet::...`` in a config's ``_base_`` alone, and a fixed list of OpenMMLab's packages. With
:func:`install` it finds covidmm's own configs, and those of every installed package that has an entry point of the
group ``covidmm.configs``: the prefix is its name, its value the package or folder module that holds the files, such as
``hospital = "hospital.configs"``. They are found in ``_base_`` and by ``Config.fromfile``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from covidmm.errors import ConfigError, did_you_mean

GROUP = "covidmm.configs"
OWN = "covidmm"
_CONFIG_MODULE = "mmengine.config.config"


def own_configs() -> Path:
    """The folder of covidmm's configs: of the wheel where OpenMMLab's packages have theirs, else of the checkout."""
    package = Path(__file__).resolve().parent.parent
    shipped = package / ".mim/configs"
    return shipped if shipped.is_dir() else package.parent / "configs"


def config_folders() -> dict[str, Path]:
    """Every prefix that covidmm serves, and the folder of its files.

    Raises:
        ConfigError: an entry point names a package that is not there.
    """
    folders = {OWN: own_configs()}
    for point in entry_points(group=GROUP):
        spec = find_spec(point.value)
        if spec is None or not spec.submodule_search_locations:
            raise ConfigError(f"entry point {point.name} of {GROUP}: no package named '{point.value}'")
        folders.setdefault(point.name, Path(next(iter(spec.submodule_search_locations))))
    return folders


def config_path(name: str | Path) -> Path:
    """The file that ``package::folder/name.py`` stands for; any other path with its ``~`` expanded.

    Raises:
        ConfigError: no such package, or no such file in it.
    """
    prefix, colons, rest = str(name).partition("::")
    if not colons:
        return Path(name).expanduser()
    folders = config_folders()
    if prefix in folders:
        folder = folders[prefix]
    elif (spec := find_spec(prefix) if prefix.isidentifier() else None) and spec.origin:
        folder = Path(spec.origin).parent / ".mim/configs"
    else:
        raise ConfigError(f"{name}: no installed package '{prefix}' with configs{did_you_mean(prefix, folders)}")
    path = folder / rest
    if not path.suffix:
        path = path.with_name(f"{path.name}.py")
    if not path.is_file():
        known = [one.relative_to(folder).as_posix() for one in folder.rglob("*.py")]
        raise ConfigError(
            f"{name}: {prefix} has no such config{did_you_mean(path.relative_to(folder).as_posix(), known)}"
        )
    return path


def install() -> None:
    """Have MMEngine find these configs, now or when it is imported. Safe to call again."""
    if module := sys.modules.get(_CONFIG_MODULE):
        _extend(module)
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Extends MMEngine's config module as soon as it is there: importing it costs a quarter of a second."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target) if fullname == _CONFIG_MODULE else None
        if spec and spec.loader:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    def __init__(self, own: Loader) -> None:
        self._own = own

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._own.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._own.exec_module(module)
        _extend(module)


def _extend(module: Any) -> None:
    config = module.Config
    if hasattr(config, "_covidmm_folders"):
        return
    config._covidmm_folders = config_folders
    of_mmengine, fromfile = config._get_cfg_path, config.fromfile

    def get_cfg_path(cfg_path: str, filename: str) -> tuple[str, str | None]:
        # MMEngine's own packages have a scope of their own; covidmm's types are registered in MMDetection's
        if cfg_path.partition("::")[0] in config_folders() and "::" in cfg_path:
            return str(config_path(cfg_path)), None
        return of_mmengine(cfg_path, filename)

    def from_named(filename: str | Path, *args: Any, **kwargs: Any) -> Any:
        return fromfile(str(config_path(filename)) if "::" in str(filename) else filename, *args, **kwargs)

    config._get_cfg_path = staticmethod(get_cfg_path)
    config.fromfile = staticmethod(from_named)
