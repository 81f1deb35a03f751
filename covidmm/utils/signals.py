"""How a tool is stopped: ctrl-C and SIGTERM reach its main thread, and none of its worker processes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """SIGTERM: what ends a tool as ctrl-C does, sent by a scheduler or a container."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Let SIGTERM raise :class:`Terminated` in the block, and leave both signals to this process alone.

    A terminal sends ctrl-C to every process of the tool, ``timeout`` and some schedulers SIGTERM too. A data loader's
    worker that ends by it fails the main process with an error of its own, before that has seen the signal; so workers
    that are forked in the block ignore ctrl-C, and end quietly by SIGTERM. Where something else than the default is
    set for SIGTERM already, and outside the main thread, nothing is changed.
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


def _leave_stops_to_the_parent() -> None:
    if signal.getsignal(signal.SIGTERM) is _terminate:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # exit code 0: any other one is an error to the data loader
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))


os.register_at_fork(after_in_child=_leave_stops_to_the_parent)
