"""Raw layouts of data sets, one module each, by the name under which ``tools/prepare.py`` knows them.

A module has ``read_folder(raw, options)``, which returns a :class:`covidmm.prepare.samples.LabelledFolder`; the first
line of its docstring names the data set.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

from covidmm.errors import ConfigError

LAYOUTS = tuple(sorted(path.stem for path in Path(__path__[0]).glob("[!_]*.py")))
"""Names of all layouts."""


def layout_module(name: str) -> ModuleType:
    """The module of a layout.

    Raises:
        ConfigError: there is no such layout.
    """
    if name not in LAYOUTS:
        raise ConfigError(f"unknown layout {name!r}, expected one of {', '.join(LAYOUTS)}")
    return import_module(f"{__name__}.{name}")


def layout_title(name: str) -> str:
    """The name of the data set in a layout, read from the module's source: importing it would slow ``--help`` down."""
    return Path(__path__[0], f"{name}.py").read_text().split("\n", 1)[0].strip('".')
