"""Reading the CSV files and folders that data sets come in."""

from __future__ import annotations

import csv
import gzip
import math
import os
from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from covidmm.errors import DataError
from covidmm.prepare.samples import Issue, IssueSink
from covidmm.prepare.scratch import Scratch

Row = TypeVar("Row")


@dataclass
class Table(Generic[Row]):
    """The usable rows of a label file by id, the ids of the others, and what is wrong with those."""

    name: str
    rows: MutableMapping[str, Row] = field(default_factory=dict)
    refused: MutableMapping[str, None] = field(default_factory=dict)
    issues: IssueSink = field(default_factory=list)

    @classmethod
    def on_disk(cls, name: str, scratch: Scratch, issues: IssueSink) -> Table[Row]:
        """An empty table for any number of rows; ids come in sorted order."""
        return cls(name, scratch.map(), scratch.map(), issues)

    def refuse(self, key: str, line: int, column: str, cause: str) -> None:
        """Leave the row of ``key`` out, and any other row of that id."""
        self.refused[key] = None
        self.rows.pop(key, None)
        self.issues.append(Issue(self.name, f"{column} (line {line}, id {key!r})", cause))


def read_rows(path: Path, columns: Sequence[str], whole: bool = False) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield ``(line number, row)`` of a CSV file, plain or gzipped (``.gz``).

    Values are stripped; a value that a short row lacks is ``''``.

    Args:
        path: the file.
        columns: names that its header must hold; others are kept too.
        whole: whether a row with more or fewer fields than the header is an error.

    Raises:
        DataError: the file is missing, empty, not text, not CSV, lacks a column, or a row is not ``whole``.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            header = [name.strip() for name in reader.fieldnames or []]
            if not header:
                raise DataError(f"{path}: is empty, expected a header with {', '.join(columns)}")
            missing = [name for name in columns if name not in header]
            if missing:
                raise DataError(f"{path}: has no column {', '.join(map(repr, missing))}, only {header}")
            reader.fieldnames = header
            for row in reader:
                fields = sum(value is not None for value in row.values()) - (None in row) + len(row.get(None, ()))
                if whole and fields != len(header):
                    raise DataError(f"{path}: line {reader.line_num}: {fields} fields, the header has {len(header)}")
                yield reader.line_num, {name: (row[name] or "").strip() for name in header}
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text (byte {error.start})") from error
    except csv.Error as error:
        raise DataError(f"{path}: is not CSV: {error}") from error


def number(text: str) -> float:
    """The finite number that ``text`` spells.

    Raises:
        ValueError: it spells none.
    """
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is not finite")
    return value


def find_files(folder: Path, suffix: str, issues: IssueSink) -> Iterator[Path]:
    """Yield every file below ``folder`` whose name ends in ``suffix`` (any case), in the order of the file system.

    Args:
        folder: where to look.
        suffix: in small letters.
        issues: gets the folders that cannot be read.

    Raises:
        DataError: the folder is missing or unreadable, or no such file lies below it.
    """
    cause = None
    found = False
    for outcome in _walk(folder):
        if isinstance(outcome, OSError):
            issues.append(Issue(str(outcome.filename), "folder", outcome.strerror or str(outcome)))
            cause = cause or outcome.strerror
        elif outcome.name.lower().endswith(suffix) and not outcome.name.startswith("."):
            found = True
            yield Path(outcome.path)
    if not found:
        raise DataError(f"{folder}: {cause or f'no {suffix} file in it'}")


def _walk(folder: Path) -> Iterator[os.DirEntry[str] | OSError]:
    """What lies below a folder and is none, and the errors; links to folders are not followed.

    ``os.walk`` holds the names of a whole folder, of which there may be millions.
    """
    open_folders: list[Iterator[os.DirEntry[str]]] = []
    pending: str | None = str(folder)
    while pending is not None or open_folders:
        try:
            if pending is not None:
                path, pending = pending, None
                open_folders.append(os.scandir(path))
            entry = next(open_folders[-1], None)
            if entry is None:
                open_folders.pop()
            elif not _is_folder(entry):
                yield entry
            elif not entry.is_symlink():
                pending = entry.path
        except OSError as error:
            yield error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False


def missing(ids: Iterable[str], others: Iterable[str]) -> Iterator[str]:
    """Yield the ids that are not among the others; both sorted, others may come twice."""
    rest = iter(others)
    other = next(rest, None)
    for one in ids:
        while other is not None and other < one:
            other = next(rest, None)
        if other != one:
            yield one
