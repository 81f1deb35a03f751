"""CSV tables that are safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from numbers import Number
from typing import Any

#: What begins a formula in a spreadsheet; the last four are = + - @ in full width. Numbers are no formulas.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def csv_bytes(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """A table as CSV; text that a spreadsheet would run as a formula gets an apostrophe before it, titles too."""
    return b"".join(csv_lines(columns, rows))


def csv_lines(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[bytes]:
    """The rows of :func:`csv_bytes`, one after the other, with their line ends."""
    for row in chain((columns,), rows):
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow([_cell(value) for value in row])
        yield text.getvalue().encode(errors="replace")


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, Number):
        return value
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
