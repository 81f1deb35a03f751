"""Stop a tool by ctrl-C or SIGTERM: its main thread gets them, its worker processes do not."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_STOPS = (signal.SIGINT, signal.SIGTERM)
_PR_SET_PDEATHSIG = 1
# For a data loader's workers to end when the tool is stopped; they need milliseconds. Chosen here.
_FAREWELL_SECONDS = 2.0
# Before a stop that was dropped is tried again. Chosen here.
_PAUSE_SECONDS = 0.05
#: Numbers of the signals that came in the block of `stoppable`.
_received: list[int] = []
#: Id of the process that is forking, if its main thread does.
_forking: list[int] = []


class Terminated(KeyboardInterrupt):
    """SIGTERM, sent by a scheduler or a container; it ends a tool as ctrl-C does."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Let SIGTERM raise :class:`Terminated` in the block; both signals end a data loader's workers quietly before.

    A terminal sends ctrl-C to every process of the tool, ``timeout`` and some schedulers SIGTERM too. A data loader's
    worker that it ends makes the main process fail with another error before that has seen the signal; so workers that
    are forked in the block ignore ctrl-C, and exit with code 0 on SIGTERM. A worker whose main process goes away in
    the middle of a message prints a traceback; so the main process sends them SIGTERM before anything else. Where a
    signal has a handler already, and outside the main thread, nothing is changed.

    A stop is not lost where Python drops the exception, as in an object's ``__del__``, or where an extension that was
    being imported makes another error of it.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    interrupt = signal.getsignal(signal.SIGINT)
    usual = sys.unraisablehook
    again: list[threading.Timer] = []
    _received.clear()
    signal.signal(signal.SIGTERM, _stop)
    if interrupt is signal.default_int_handler:
        signal.signal(signal.SIGINT, _stop)

    def stop_again(dropped: sys.UnraisableHookArgs) -> None:
        if not (_received and isinstance(dropped.exc_value, KeyboardInterrupt)):
            usual(dropped)
            return
        # from another thread, and later: what is raised here is dropped too
        again.append(threading.Timer(_PAUSE_SECONDS, os.kill, (os.getpid(), _received[-1])))
        again[-1].start()

    sys.unraisablehook = stop_again
    try:
        with stops_restored():
            yield
    finally:
        for timer in again:  # with the handlers gone it would end the process
            timer.cancel()
            timer.join()
        sys.unraisablehook = usual
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, interrupt)


@contextmanager
def stops_restored() -> Iterator[None]:
    """Raise the stop in place of an error that came of it.

    Raises:
        KeyboardInterrupt: the block raised some error after a signal that :func:`stoppable` takes.
    """
    try:
        yield
    except Exception as error:
        if _received:
            raise _exception(_received[-1]) from error
        raise


def _exception(number: int) -> KeyboardInterrupt:
    return Terminated() if number == signal.SIGTERM else KeyboardInterrupt()


def _stop(number: int, frame: FrameType | None) -> None:
    _received.append(number)
    # a data loader's workers are daemons; those of a process pool are not, and finish what they write
    workers = [child for child in multiprocessing.active_children() if child.daemon]
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.join(_FAREWELL_SECONDS)
    raise _exception(number)


def _hold_back() -> None:
    """Before a fork: let no signal reach the child before it has handlers of its own, which would lose it."""
    # Linux takes the end of the forking thread for that of the parent; the main one lives as long as the process
    _forking[:] = [os.getpid()] if threading.current_thread() is threading.main_thread() else []
    if signal.getsignal(signal.SIGTERM) is _stop:
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)


def _let_through() -> None:
    if signal.getsignal(signal.SIGTERM) is _stop:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)


def _follow_the_parent() -> None:
    """In a forked worker: leave both signals to the parent, and end with it, even if it is killed at this moment.

    PyTorch's workers look every five seconds whether their parent is the one that they saw first; one whose parent was
    killed before that look lives on for good.
    """
    if signal.getsignal(signal.SIGTERM) is not _stop:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # exit code 0: any other one is an error to the data loader
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
    if _forking and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != _forking[0]:
            os._exit(0)


os.register_at_fork(before=_hold_back, after_in_parent=_let_through, after_in_child=_follow_the_parent)
