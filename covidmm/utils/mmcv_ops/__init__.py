"""MMCV's compiled ops, served by torchvision and PyTorch where mmcv was installed without them.

``import mmdet`` needs the compiled module ``mmcv._ext``, which takes a compiler (and nvcc for CUDA) and several minutes
to build. :func:`install` has :class:`~covidmm.utils.mmcv_ops.served.Ops` stand in for it where there is none: its ops
run on torchvision's and PyTorch's kernels, on the CPU and on CUDA alike. An op that is not served raises
:class:`~covidmm.utils.mmcv_ops.refusals.OpNotServedError` with its name when it is called, not when mmcv is imported.

Nothing here depends on the rest of covidmm.
"""

from __future__ import annotations

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def install() -> None:
    """Serve ``mmcv._ext`` from now on, unless mmcv has a compiled one. Safe to call again."""
    if not any(isinstance(finder, _OpsFinder) for finder in sys.meta_path):
        sys.meta_path.append(_OpsFinder())  # last, so that a compiled module wins


class _OpsFinder(MetaPathFinder, Loader):
    """Finds ``mmcv._ext`` where mmcv was installed without its compiled ops."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname == "mmcv._ext" else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        from covidmm.utils.mmcv_ops.served import Ops  # imports torch, which `import covidmm` must not

        return Ops(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run: the ops are looked up when they are asked for."""
