"""Imports that are put off until they are used.

``import mmdet`` imports every part of MMDetection, and some of those import what nothing here needs: imgaug for lanes,
scikit-learn and SciPy for tracks, numba for corrupted images, a quarter of the time in which a training starts.
:func:`install` has stand-ins serve these parts, and only these, while they are imported. What a part takes from a
stand-in becomes the real thing at its first use; all others import the real module.
"""

from __future__ import annotations

import gc
import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from types import ModuleType
from typing import Any

#: Part of MMDetection -> the modules that it imports and that are put off, each after the package that holds it.
PUT_OFF = {
    "mmdet.datasets.transforms.generate_line": (
        "imgaug",
        "imgaug.augmenters",
        "imgaug.augmentables",
        "imgaug.augmentables.lines",
        "imgaug.augmentables.segmaps",
        "scipy.interpolate",
    ),
    "mmdet.datasets.transforms.transforms": ("imagecorruptions",),
    "mmdet.evaluation.metrics.crowdhuman_metric": ("scipy.sparse", "scipy.sparse.csgraph"),
    "mmdet.evaluation.metrics.culane_metric": ("scipy.interpolate", "scipy.optimize"),
    "mmdet.models.dense_heads.clr_head.clr_head": ("matplotlib.pyplot",),
    "mmdet.models.dense_heads.clr_head.lane": ("scipy.interpolate",),
    "mmdet.models.dense_heads.paa_head": ("sklearn", "sklearn.mixture"),
    "mmdet.models.task_modules.assigners.hungarian_assigner": ("scipy.optimize",),
    "mmdet.models.task_modules.assigners.topk_hungarian_assigner": ("scipy.optimize",),
    "mmdet.models.task_modules.tracking.aflink": ("scipy.optimize",),
    "mmdet.models.task_modules.tracking.interpolation": (
        "sklearn",
        "sklearn.gaussian_process",
        "sklearn.gaussian_process.kernels",
    ),
    "mmdet.models.task_modules.tracking.kalman_filter": ("scipy", "scipy.linalg"),
    "mmdet.models.trackers.sort_tracker": ("scipy.optimize",),
    "mmdet.utils.mot_error_visualize": ("matplotlib.pyplot",),
    "mmdet.visualization.local_visualizer": ("matplotlib.pyplot",),
}

#: Parts that print a line at every start where the optional package onedl is absent.
_SAY_ONEDL = ("mmdet.datasets", "mmdet.datasets.transforms")


def install() -> None:
    """Put these imports off from now on. Safe to call again."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


@contextmanager
def imports_that_stay() -> Iterator[None]:
    """Keep Python's garbage collector from looking through what a block imports, meanwhile and later.

    PyTorch and MMDetection make half a million objects that live as long as the process. Looking through them takes a
    sixth of the time of their import, and a quarter of a second at each full collection; MMEngine makes one for every
    data set. Where MMDetection's models are there already, nothing is done: the garbage of others must not be kept.
    """
    if "mmdet.models" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


class _Finder(MetaPathFinder):
    """Finds the parts where they are, and has them executed among stand-ins."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        known = fullname in PUT_OFF or fullname in _SAY_ONEDL
        spec = PathFinder.find_spec(fullname, path, target) if known else None
        if spec and spec.loader:
            spec.loader = _Loader(spec.loader, PUT_OFF.get(fullname, ()))
        return spec


class _Loader(Loader):
    def __init__(self, own: Loader, put_off: Sequence[str]) -> None:
        self._own = own
        self._put_off = put_off

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._own.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # what is there already costs nothing; what is not installed must fail as it does without stand-ins
        stand_ins = {
            name: _StandIn(name) for name in self._put_off if name not in sys.modules and find_spec(name.split(".")[0])
        }
        sys.modules.update(stand_ins)
        try:
            with _without_onedl() if module.__name__ in _SAY_ONEDL else nullcontext():
                self._own.exec_module(module)
        finally:
            for name in stand_ins:
                del sys.modules[name]


@contextmanager
def _without_onedl() -> Iterator[None]:
    """Print what a block prints, but for MMDetection's word that an optional package is not there."""
    said = io.StringIO()
    try:
        with redirect_stdout(said):
            yield
    finally:
        print("".join(line for line in said.getvalue().splitlines(keepends=True) if "OneDL" not in line), end="")


class _StandIn(ModuleType):
    """Serves names for later while it stands in for a module, and the module's own names from then on."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            return sys.modules.get(f"{self.__name__}.{name}") or _Later(self.__name__, name)
        return getattr(import_module(self.__name__), name)


class _Later:
    """A class or function of a module, imported when it is called or asked for something."""

    def __init__(self, module: str, name: str) -> None:
        self._place = module, name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._found()(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._found(), name)

    def _found(self) -> Any:
        module, name = self._place
        return getattr(import_module(module), name)
