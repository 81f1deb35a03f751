import errno
import os
import sys
import threading

import pytest

from covidmm.errors import DataError, RadiographError
from covidmm.utils import command_line
from covidmm.utils.command_line import run_tool
from covidmm.utils.signals import Terminated


def raising(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (DataError("labels.csv: no column 'id'"), 1, "error: labels.csv: no column 'id'\n"),
        (RadiographError("x.dcm: truncated"), 1, "error: x.dcm: truncated\n"),
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out.png"),
            1,
            "error: out.png: No space left on device\n",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "out"), 1, "error: out: Permission denied\n"),
        (OSError(errno.EIO, os.strerror(errno.EIO)), 1, "error: output: Input/output error\n"),
        (OSError(errno.EFBIG, os.strerror(errno.EFBIG), "x.pth"), 1, "error: x.pth: File too large\n"),
        (FileExistsError(errno.EEXIST, "File exists", "out"), 1, "error: out: File exists\n"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "x/y"), 1, "error: x/y: Not a directory\n"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "a.json"), 1, "error: a.json: Is a directory\n"),
    ],
)
def test_expected_failures_end_in_one_line(error, code, line, capsys):
    assert run_tool(raising(error)) == code
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(
    ("stop", "code", "line"),
    [
        (KeyboardInterrupt(), 130, "stopped; run the same command again\n"),
        (KeyboardInterrupt("resume with --resume"), 130, "stopped; resume with --resume\n"),
        (Terminated(), 143, "stopped; run the same command again\n"),
    ],
)
def test_a_stop_says_how_to_resume_and_ends_the_process(stop, code, line, capsys, monkeypatch):
    left = []
    monkeypatch.setattr(command_line, "leave", left.append)
    run_tool(raising(stop))
    assert left == [code]
    assert capsys.readouterr().err == line


def test_an_error_from_a_data_loader_worker_is_reduced_to_its_line(capsys):
    text = "Caught DataError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n.\n"
    assert run_tool(raising(DataError(text + "covidmm.errors.DataError: a.png: missing\n"))) == 1
    assert capsys.readouterr().err == "error: a.png: missing\n"


def test_a_thread_that_may_not_write_says_so_in_one_line(capsys):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "events")

    def main():
        for error in (full, ZeroDivisionError()):
            thread = threading.Thread(target=raising(error))
            thread.start()
            thread.join()

    usual = threading.excepthook
    threading.excepthook = lambda args: print(f"usual {args.exc_type.__name__}", file=sys.stderr)
    try:
        assert run_tool(main) == 0
    finally:
        threading.excepthook = usual
    assert capsys.readouterr().err == "warning: events: No space left on device\nusual ZeroDivisionError\n"


def test_a_programming_error_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        run_tool(raising(ZeroDivisionError()))


def test_the_exit_code_of_main_is_kept():
    assert run_tool(lambda: None) == 0
    assert run_tool(lambda: 3) == 3
