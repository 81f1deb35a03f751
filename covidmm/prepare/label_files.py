"""Reads the CSV files and folders of raw data sets, and joins files with rows."""

from __future__ import annotations

import csv
import gzip
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from covidmm.errors import DataError
from covidmm.prepare.samples import Issue, Sample
from covidmm.radiograph.found_files import identify

Row = TypeVar("Row")


@dataclass
class Table(Generic[Row]):
    """The usable rows of a label file by id, the ids of the others, and what is wrong with those."""

    name: str
    rows: dict[str, Row] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    issues: list[Issue] = field(default_factory=list)

    def __contains__(self, key: str) -> bool:
        return key in self.rows or key in self.refused

    @contextmanager
    def reading(self, key: str, line: int) -> Iterator[None]:
        """Where the block raises a ValueError ``column: cause``, refuse this and any other row of the id ``key``."""
        try:
            yield
        except ValueError as error:
            self.refused.add(key)
            self.rows.pop(key, None)
            column, _, cause = str(error).partition(": ")
            self.issues.append(Issue(self.name, f"{column} (line {line}, id {key!r})", cause))


def join_files(
    raw: Path, files: Iterable[Path], sample_of: Callable[[Path, Sample | None], Sample | None], skipped: list[Issue]
) -> dict[str, Sample]:
    """Join image files, whose stems are the image ids, with the rows of label files.

    Args:
        raw: the folder of the data set.
        files: below it.
        sample_of: gets a file, and the sample of an earlier file of the same image; returns the file's sample, or None
            where the file is left out and needs no mention. Raises a ValueError ``field: cause`` for a file that
            cannot be used.
        skipped: gets the files that cannot be used.

    Returns:
        Samples by image id, sorted.
    """
    samples: dict[str, Sample] = {}
    for path in files:
        try:
            sample = sample_of(path, samples.get(path.stem))
        except ValueError as error:
            column, _, cause = str(error).partition(": ")
            skipped.append(Issue(path.relative_to(raw).as_posix(), column, cause))
        else:
            if sample is not None:
                samples[sample.image_id] = sample
    return dict(sorted(samples.items()))


def read_rows(path: Path, columns: Sequence[str], whole: bool = False) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield ``(line number, row)`` of a CSV file, plain or gzipped (``.gz``), or of a Parquet file (``.parquet``).

    Values are stripped; a value that a short row lacks is ``''``.

    Args:
        path: the file.
        columns: names that its header must hold; others are kept too.
        whole: whether a row with more or fewer fields than the header is an error.

    Raises:
        DataError: the file is missing, empty, not text, not CSV, lacks a column, or a row is not ``whole``.
    """
    if path.suffix == ".parquet":
        yield from _parquet_rows(path, columns)
        return
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            header = [name.strip() for name in reader.fieldnames or []]
            if not header:
                raise DataError(f"{path}: is empty, expected a header with {', '.join(columns)}")
            _require_columns(path, columns, header)
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


def _require_columns(path: Path, columns: Sequence[str], header: Sequence[str]) -> None:
    if missing := [name for name in columns if name not in header]:
        raise DataError(f"{path}: has no column {', '.join(map(repr, missing))}, only {list(header)}")


def _parquet_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a Parquet file as a CSV file would spell them; they are counted from 1."""
    try:
        from pyarrow import ArrowException, parquet  # the extra 'parquet'
    except ImportError as error:
        raise DataError(f"{path}: a Parquet file needs pyarrow: pip install 'covidmm[parquet]'") from error
    try:
        table = parquet.read_table(path)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (OSError, ArrowException) as error:
        raise DataError(f"{path}: cannot be read as Parquet: {' '.join(str(error).split())}") from error
    header = [name.strip() for name in table.column_names]
    _require_columns(path, columns, header)
    rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
    yield from enumerate((dict(zip(header, map(_spelled, row), strict=True)) for row in rows), start=1)


def _spelled(value: object) -> str:
    """A value as text: nothing, and no number, are empty."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value).strip()


def number(text: str) -> float:
    """The finite number that ``text`` spells.

    Raises:
        ValueError: it spells none.
    """
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is not finite")
    return value


def find_files(folder: Path, suffix: str, issues: list[Issue], others: list[Path] | None = None) -> list[Path]:
    """Every file below ``folder`` whose name ends in ``suffix`` (any case), by name, then by folder.

    Of ``.dcm`` also DICOM images that are called otherwise. Links to folders are not followed.

    Args:
        folder: where to look.
        suffix: in small letters.
        issues: gets the folders that cannot be read.
        others: gets the other files.

    Raises:
        DataError: the folder is missing or unreadable, or no such file lies below it.
    """
    errors: list[OSError] = []
    found: list[Path] = []
    left_out = [] if others is None else others
    for parent, _, names in os.walk(folder, onerror=errors.append):
        for name in names:
            path = Path(parent, name)
            (found if _is_wanted(path, suffix) else left_out).append(path)
    issues += [Issue(str(error.filename), "folder", error.strerror or str(error)) for error in errors]
    if not found:
        cause = next((error.strerror for error in errors if error.strerror), f"no {suffix} file in it")
        raise DataError(f"{folder}: {cause}")
    return sorted(found, key=lambda path: (path.stem, path.parts))


def count_others(others: Sequence[Path]) -> dict[str, int]:
    """What a summary says of files that :func:`find_files` left out; nothing where there are none."""
    return {f"that are no images of the data set, such as {min(others)}": len(others)} if others else {}


def _is_wanted(path: Path, suffix: str) -> bool:
    if path.name.startswith("."):
        return False
    return path.name.lower().endswith(suffix) or (suffix == ".dcm" and identify(path).image is not None)
