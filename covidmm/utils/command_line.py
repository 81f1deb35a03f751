"""How a command-line tool ends: exit codes, and one line on stderr for what a user can mend."""

from __future__ import annotations

import errno
import io
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from covidmm.errors import CovidmmError
from covidmm.utils.distributed import is_first, leave, rank
from covidmm.utils.signals import Terminated, stoppable

# What an operating system refuses that a user can mend: a full, broken, read-only or foreign disk, too many open files,
# a file where a folder belongs, or a folder where a file does.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_MISPLACED = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG)
_REFUSALS = (*_FULL, *_MISPLACED, errno.EIO, errno.ESTALE, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE)

# Seconds that the other processes of a run wait for the first one's words; chosen here, starts differ by less.
_LET_SPEAK = 5.0


def run_tool(main: Callable[[], int | None], go_on: str = "the same command begins anew") -> int:
    """Run a tool's ``main`` and turn expected failures into one line on stderr.

    Args:
        main: the tool.
        go_on: what to do after it was stopped; an argument of the KeyboardInterrupt takes its place.

    Returns:
        The exit code: what ``main`` returned (None counts as 0), 1 after a :class:`CovidmmError` or an
        operating-system error such as a full disk, 130 after ctrl-C, 143 after SIGTERM. A process of torchrun ends
        here with that code.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: a file name may be no UTF-8
    code = _exit_code(main, go_on)
    leave(code)
    return code


def _exit_code(main: Callable[[], int | None], go_on: str) -> int:
    try:
        with stoppable(), _threads_say_refusals():
            return main() or 0
    except CovidmmError as error:
        _say_error(_one_line(error))
        return 1
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        _say_error(_refusal(error))
        return 1
    except KeyboardInterrupt as stop:
        if is_first():
            print(f"stopped; {stop.args[0] if stop.args else go_on}", file=sys.stderr)
        return 128 + (signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT)


def _say_error(text: str) -> None:
    """Print the one line. What fails in the first of several processes fails in all: the others let it speak, and
    torchrun ends them before they would."""
    if not is_first():
        time.sleep(_LET_SPEAK)
        text = f"process {rank()}: {text}"
    print(f"error: {text}", file=sys.stderr)


@contextmanager
def _threads_say_refusals() -> Iterator[None]:
    """Let a thread that may not write, such as TensorBoard's, say so in one line; whoever waits for it fails, too."""
    usual = threading.excepthook

    def say(args: threading.ExceptHookArgs) -> None:
        if isinstance(args.exc_value, OSError) and args.exc_value.errno in _REFUSALS:
            print(f"warning: {_refusal(args.exc_value)}", file=sys.stderr)
        else:
            usual(args)

    threading.excepthook = say
    try:
        yield
    finally:
        threading.excepthook = usual


def _refusal(error: OSError) -> str:
    return f"{error.filename2 or error.filename or 'output'}: {error.strerror}"


def _one_line(error: CovidmmError) -> str:
    """The message, without the traceback that torch puts before it when a data-loader worker raised it."""
    text = str(error).strip()
    return text.splitlines()[-1].partition(": ")[2] if "Original Traceback" in text else text
