"""The errors that covidmm raises on purpose, and how a tool ends on one.

Every one of them says which file (or field) is at fault and why, in one line, so that a tool can print it
as it stands.
"""

from __future__ import annotations

import difflib
import errno
import sys
from collections.abc import Callable, Iterable


class CovidmmError(Exception):
    """Base of every error that a user can mend: bad input, a bad config, a full disk."""


class RadiographError(CovidmmError):
    """A file that cannot be read as a chest radiograph."""


class DataError(CovidmmError):
    """A data set folder, label file or annotation that is missing, malformed or contradictory."""


class ConfigError(CovidmmError):
    """A config or a ``--cfg-options`` entry that nothing reads, or that contradicts the data."""


class CheckpointError(CovidmmError):
    """A checkpoint that is missing, unsafe to read, or that does not fit the model."""


class PluginError(CovidmmError):
    """A plugin that is unknown, misspelt or broken."""


def run_tool(main: Callable[[], int | None]) -> int:
    """Run a tool's ``main`` and turn expected failures into one line on stderr.

    Returns:
        The exit code: what ``main`` returned (None counts as 0), 1 after a :class:`CovidmmError` or an
        operating-system error such as a full disk, 130 after ctrl-C.
    """
    try:
        return main() or 0
    except CovidmmError as error:
        print(f"error: {_one_line(error)}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EPERM, errno.EDQUOT, errno.ENAMETOOLONG):
            raise
        print(f"error: {error.filename or 'output'}: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _one_line(error: CovidmmError) -> str:
    """The message, without the traceback that torch puts before it when a data-loader worker raised it."""
    text = str(error).strip()
    return text.splitlines()[-1].partition(": ")[2] if "Original Traceback" in text else text


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``": did you mean 'x'?"`` for the closest known name, or nothing."""
    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f": did you mean '{close[0]}'?" if close else ""
