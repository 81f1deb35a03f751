"""Stop a tool by ctrl-C or SIGTERM: its main thread gets them, its worker processes do not."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_PR_SET_PDEATHSIG = 1
#: Id of the process that is forking, if its main thread does.
_forking: list[int] = []


class Terminated(KeyboardInterrupt):
    """SIGTERM, sent by a scheduler or a container; it ends a tool as ctrl-C does."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Let SIGTERM raise :class:`Terminated` in the block, and keep both signals from worker processes.

    A terminal sends ctrl-C to every process of the tool, ``timeout`` and some schedulers SIGTERM too. A data loader's
    worker that it ends makes the main process fail with another error before that has seen the signal; so workers that
    are forked in the block ignore ctrl-C, and exit with code 0 on SIGTERM. Where SIGTERM has a handler already, and
    outside the main thread, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


def _note_the_parent() -> None:
    # Linux takes the end of the forking thread for that of the parent; the main one lives as long as the process
    _forking[:] = [os.getpid()] if threading.current_thread() is threading.main_thread() else []


def _follow_the_parent() -> None:
    """In a forked worker: leave both signals to the parent, and end with it, even if it is killed at this moment.

    PyTorch's workers look every five seconds whether their parent is the one that they saw first; one whose parent was
    killed before that look lives on for good.
    """
    if signal.getsignal(signal.SIGTERM) is not _terminate:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # exit code 0: any other one is an error to the data loader
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    if _forking and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != _forking[0]:
            os._exit(0)


os.register_at_fork(before=_note_the_parent, after_in_child=_follow_the_parent)
