"""Read NumPy's values in checkpoints without NumPy's own unpickling.

``numpy.dtype`` and ``numpy.ndarray`` trust the state in a pickle: flags that turn an array's numbers into pointers
crash the process, or worse. These stand-ins accept plain numbers that fit their shape.
"""

from __future__ import annotations

import math
import pickle
import re
from typing import Any

import numpy as np
from typing_extensions import Self

_NUMBERS = re.compile(r"b1|[iu][1248]|f[248]")
_ORDERS = ("<", ">", "|", "=")


class Kind:
    """Stands for ``numpy.dtype`` of a kind of number."""

    def __init__(self, name: str, *_: Any) -> None:
        if not isinstance(name, str) or not _NUMBERS.fullmatch(name):
            raise pickle.UnpicklingError("GLOBAL numpy.dtype of no number")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Take the byte order of a state, and nothing else."""
        if state[1] not in _ORDERS:
            raise pickle.UnpicklingError("GLOBAL numpy.dtype of an unknown byte order")
        self.dtype = self.dtype.newbyteorder(state[1])


class Array(np.ndarray):
    """Stands for ``numpy.ndarray`` and the function that reconstructs one: empty until it gets a state."""

    def __new__(cls, *_: Any) -> Self:
        """Make an empty one, whatever a pickle asks for."""
        return super().__new__(cls, (0,))

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Take shape and numbers, if the one fits the others."""
        _, shape, kind, in_columns, data = state
        sides = isinstance(shape, tuple) and all(type(side) is int and 0 <= side < 2**31 for side in shape)
        fits = sides and type(data) is bytes and isinstance(kind, Kind)
        if not fits or math.prod(shape) * kind.dtype.itemsize != len(data):
            raise pickle.UnpicklingError("GLOBAL numpy.ndarray whose numbers do not fit its shape")
        super().__setstate__((1, shape, kind.dtype, bool(in_columns), data))


def scalar(kind: Any, data: Any) -> np.generic:
    """Stands for ``numpy.core.multiarray.scalar``."""
    if not isinstance(kind, Kind) or type(data) is not bytes or len(data) != kind.dtype.itemsize:
        raise pickle.UnpicklingError("GLOBAL numpy scalar of no number")
    return np.frombuffer(data, kind.dtype)[0]


#: Each beside the name that it stands for; NumPy 2 renamed a package.
STAND_INS = [
    (Kind, "numpy.dtype"),
    (Array, "numpy.ndarray"),
    *((Array, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    *((scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
]
