"""How much freed memory a process keeps for its next allocations."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping

# options of mallopt, from glibc's malloc.h
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
#: Blocks of less than 32 MiB come from the heap, of which 128 MiB stay when they are free: for a process that reads
#: radiographs one by one, a few of them large. Chosen here for up to 16 megapixels.
RADIOGRAPHS = {_MMAP_THRESHOLD: 32 * 2**20, _TRIM_THRESHOLD: 128 * 2**20}
#: Blocks of every size are kept for good: for a process that asks for the same ones at every step, as a training does.
NEVER_RELEASE = {_MMAP_MAX: 0, _TRIM_THRESHOLD: -1}


def keep_freed_memory(blocks: Mapping[int, int]) -> None:
    """Have this process keep freed blocks for its next allocations, where the C library is glibc.

    Otherwise large ones are returned to the system and mapped again page by page: a fifth of the time per file of
    ``prepare``, a twelfth of a training step of Faster R-CNN ResNeXt-101 on two cores.

    Args:
        blocks: :data:`RADIOGRAPHS` or :data:`NEVER_RELEASE`.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        for option, value in blocks.items():
            mallopt(option, value)
