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


def under_torchrun() -> bool:
    """Whether torchrun has started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def leave(code: int) -> None:
    """End this process with an exit code, without finalising Python.

    A thread that is still at work while Python is finalised, or an extension that a stop has interrupted, aborts the
    process by SIGABRT, though all is written. PyTorch's communication threads are such: destroying the group joins
    them only if nothing refers to it, and parts of PyTorch that are imported after the processes have joined do, as a
    default argument.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # its reader has closed it
            stream.flush()
    os._exit(code)
