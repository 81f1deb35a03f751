"""How command-line tools are started, and how they end: exit codes, one line on stderr for an error of the user."""

from __future__ import annotations

import errno
import io
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from covidmm.errors import CovidmmError
from covidmm.utils.distributed import is_first, leave, rank, under_torchrun
from covidmm.utils.mmcv_ops.refusals import OpNotServedError
from covidmm.utils.signals import Terminated, stoppable

# Errors of the operating system that a user can fix: a full, broken, read-only or foreign disk, too many open files, a
# file where a folder belongs, or a folder where a file does.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_MISPLACED = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG)
_REFUSALS = (*_FULL, *_MISPLACED, errno.EIO, errno.ESTALE, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE)

_STOPPED = tuple(128 + number for number in (signal.SIGINT, signal.SIGTERM))

#: The tools of a checkout whose file has another name than the word after ``covidmm``.
_TOOLS = {"convert": "convert_checkpoint"}

# Seconds by which the other processes of a run delay their errors; chosen here, starts differ by less.
_FIRST_PROCESS_HEAD_START = 5.0


def command_line(word: str) -> list[str]:
    """How a command is started as a process of its own: by its tool in a checkout, else by the installed package."""
    tool = Path(__file__).resolve().parents[2] / "tools" / f"{_TOOLS.get(word, word)}.py"
    return [sys.executable, str(tool)] if tool.is_file() else [sys.executable, "-m", "covidmm", word]


def shown_command(word: str) -> str:
    """What a person types for a command: its tool in a checkout, else ``covidmm WORD``."""
    tool = Path(command_line(word)[1])
    return f"tools/{tool.name}" if tool.suffix else f"covidmm {word}"


def run_tool(main: Callable[[], int | None], advice: str = "run the same command again") -> int:
    """Run a tool's ``main`` and turn expected failures into one line on stderr.

    Args:
        main: the tool.
        advice: how to resume, printed when it was stopped; an argument of the KeyboardInterrupt replaces it.

    Returns:
        The exit code: what ``main`` returned (None counts as 0), 1 after a :class:`CovidmmError` or an
        operating-system error such as a full disk. A process that was stopped ends here with 130 after ctrl-C and
        143 after SIGTERM, and one of torchrun with any code.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: a file name may be no UTF-8
    code = _exit_code(main, advice)
    if code in _STOPPED or under_torchrun():
        leave(code)
    return code


def _exit_code(main: Callable[[], int | None], advice: str) -> int:
    try:
        with stoppable(), _threads_report_refusals():
            return main() or 0
    except (CovidmmError, OpNotServedError) as error:
        _print_error(_one_line(error))
        return 1
    except OSError as error:
        if error.errno == errno.EPIPE and _nobody_reads():
            # as `covidmm configs | head`: the reader has what it wanted; Python's own last flush must not complain
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 128 + signal.SIGPIPE
        if error.errno not in _REFUSALS:
            raise
        _print_error(_refusal(error))
        return 1
    except KeyboardInterrupt as stop:
        if is_first():
            print(f"stopped; {stop.args[0] if stop.args else advice}", file=sys.stderr)
        return 128 + (signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT)


def _nobody_reads() -> bool:
    """Whether standard output is a pipe whose other end is closed."""
    watch = select.poll()
    watch.register(sys.stdout.fileno(), 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in watch.poll(0))


def _print_error(text: str) -> None:
    """Print the line. What fails in the first of several processes fails in all: the others wait, and torchrun ends
    them before they print it too."""
    if not is_first():
        time.sleep(_FIRST_PROCESS_HEAD_START)
        text = f"process {rank()}: {text}"
    print(f"error: {text}", file=sys.stderr)


@contextmanager
def _threads_report_refusals() -> Iterator[None]:
    """Report a thread that cannot write, such as TensorBoard's, in one line; the thread that waits for it fails too."""
    usual = threading.excepthook

    def report(args: threading.ExceptHookArgs) -> None:
        if isinstance(args.exc_value, OSError) and args.exc_value.errno in _REFUSALS:
            print(f"warning: {_refusal(args.exc_value)}", file=sys.stderr)
        else:
            usual(args)

    threading.excepthook = report
    try:
        yield
    finally:
        threading.excepthook = usual


def _refusal(error: OSError) -> str:
    return f"{error.filename2 or error.filename or 'output'}: {error.strerror}"


def _one_line(error: Exception) -> str:
    """The message, without the traceback that torch puts before it when a data-loader worker raised it."""
    text = str(error).strip()
    return text.splitlines()[-1].partition(": ")[2] if "Original Traceback" in text else text
