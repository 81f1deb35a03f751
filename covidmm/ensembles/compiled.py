"""Machine code of numba, kept on the disk between runs: compiling one function takes seconds."""

from __future__ import annotations

from numba.core.dispatcher import Dispatcher


def keep(*functions: Dispatcher) -> None:
    """Have functions that numba compiles kept beside their source or in the user's cache, where either can be written.

    Args:
        functions: what ``numba.njit`` made and nobody has called yet.
    """
    for function in functions:
        try:
            function.enable_caching()
        except RuntimeError:  # numba found no folder that it may write to: it compiles in each run
            return
