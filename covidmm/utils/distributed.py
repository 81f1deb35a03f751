"""The number of this process in a run of several, and its end."""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import suppress


def rank() -> int:
    """The number of this process, from 0; 0 outside of torchrun."""
    return int(os.environ.get("RANK", "0"))


def is_first() -> bool:
    """Whether this process is the one that writes files and prints."""
    return rank() == 0


def leave(code: int) -> None:
    """End a process of torchrun with an exit code, without finalising Python; outside of torchrun do nothing.

    PyTorch's communication threads may still be freeing tensors. One that does so while Python is finalised aborts the
    process by SIGABRT, though its work is done. Destroying the group joins these threads only if nothing refers to it,
    and parts of PyTorch that are imported after the processes have joined do, as a default argument.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # its reader has closed it
            stream.flush()
    os._exit(code)
