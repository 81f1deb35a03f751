"""The page of all measurements: each benchmark's table, put where a Markdown page names it."""

from __future__ import annotations

import json
import re
from pathlib import Path

from benchmarks.measure import format_measured
from covidmm.errors import DataError
from covidmm.utils.fileio import write_bytes

#: ``<!-- NAME -->`` and the block that follows it.
_PLACE = re.compile(r"(<!-- (\w+) -->\n```text\n).*?(```\n)", re.DOTALL)


def update_page(page: str | Path, folder: str | Path) -> list[str]:
    """Put the tables of ``folder/NAME.json``, as ``tools/benchmark.py NAME --json`` writes them, into a page.

    A place without a file keeps what it holds.

    Args:
        page: Markdown with places: a line ``<!-- NAME -->`` before a block of ``text``.
        folder: of the reports.

    Returns:
        The names whose tables were put in.

    Raises:
        DataError: no page, no place in it, or a report that is none of covidmm's.
    """
    page, folder = Path(page), Path(folder)
    if not page.is_file():
        raise DataError(f"{page}: no such page")
    text = page.read_text()
    if not _PLACE.search(text):
        raise DataError(f"{page}: has no place for a table, a line <!-- NAME --> before a block of text")
    found: list[str] = []

    def table(place: re.Match) -> str:
        file = folder / f"{place[2]}.json"
        if not file.is_file():
            return place[0]
        found.append(place[2])
        return f"{place[1]}{_table(file)}\n{place[3]}"

    new = _PLACE.sub(table, text)
    if not found:
        raise DataError(f"{folder}: holds no report for {page}; tools/benchmark.py NAME --json {folder}/NAME.json")
    write_bytes(page, new.encode())
    return found


def _table(file: Path) -> str:
    try:
        return format_measured(json.loads(file.read_text()))
    except (ValueError, KeyError, TypeError, ImportError, AttributeError) as error:
        raise DataError(f"{file}: no report of tools/benchmark.py ({error!r})") from error
