"""Stop a tool by ctrl-C or SIGTERM: its main thread gets them, its worker processes do not."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


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


def _leave_signals_to_the_parent() -> None:
    if signal.getsignal(signal.SIGTERM) is _terminate:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # exit code 0: any other one is an error to the data loader
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))


os.register_at_fork(after_in_child=_leave_signals_to_the_parent)
