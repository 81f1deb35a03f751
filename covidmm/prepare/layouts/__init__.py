"""Raw layouts of data sets, one module each, by the name under which ``tools/prepare.py`` knows them.

A module has ``read_folder(raw, options)``, which returns a :class:`covidmm.prepare.samples.LabelledFolder`; the first
line of its docstring names the data set. Another package adds one by an entry point of the group ``covidmm.layouts``.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from covidmm.errors import ConfigError

_OWN = tuple(path.stem.replace("_", "-") for path in Path(__path__[0]).glob("[!_]*.py"))
_OTHERS: dict[str, EntryPoint] = {
    entry.name: entry for entry in entry_points(group="covidmm.layouts") if entry.name not in _OWN
}
LAYOUTS = tuple(sorted((*_OWN, *_OTHERS)))
"""Names of all layouts."""


def layout_module(name: str) -> ModuleType:
    """The module of a layout.

    Raises:
        ConfigError: there is no such layout, or the package that has it cannot be imported.
    """
    if name not in LAYOUTS:
        raise ConfigError(f"unknown layout {name!r}, expected one of {', '.join(LAYOUTS)}")
    if other := _OTHERS.get(name):
        try:
            module = other.load()
        except Exception as error:  # foreign code can fail in any way
            cause = " ".join(f"{type(error).__name__}: {error}".split())
            raise ConfigError(f"layout {name!r} ({other.value}): cannot be imported: {cause}") from error
        if not callable(getattr(module, "read_folder", None)):
            raise ConfigError(f"layout {name!r} ({other.value}): has no function read_folder(raw, options)")
        return module
    return import_module(f"{__name__}.{_file(name)}")


def layout_title(name: str) -> str:
    """The name of the data set in a layout, read from the module's source: importing it would slow ``--help`` down."""
    if other := _OTHERS.get(name):
        return f"a layout of the package {other.value.split('.')[0]}"
    return Path(__path__[0], f"{_file(name)}.py").read_text().split("\n", 1)[0].strip('".')


def _file(name: str) -> str:
    return name.replace("-", "_")
