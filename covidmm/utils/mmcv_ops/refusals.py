"""What is said of an op that is not served."""

from __future__ import annotations

HOW_TO_COMPILE = (
    "install a C++ compiler (and the CUDA toolkit for GPU ops), then run "
    "`pip install --force-reinstall --no-deps --no-build-isolation --no-binary :all: onedl-mmcv` "
    "with MMCV_WITH_OPS=1 in the environment"
)


def not_served(name: str) -> str:
    """The message for an op that is missing here, with the way to a compiled one."""
    return f"mmcv op '{name}' is not served by covidmm.utils.mmcv_ops and this mmcv was not compiled: {HOW_TO_COMPILE}"
