"""Remembers which images of a prepared folder are done, so that a killed run goes on where it stopped."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import json
from pathlib import Path
from types import TracebackType

from covidmm.atomic import append, write_bytes
from covidmm.datasets.conversion import Record
from covidmm.errors import DataError


class Journal:
    """A file of one JSON line per written PNG, appended while a run is under way.

    A context manager: it holds a lock, so that two runs cannot write one folder at the same time.

    Args:
        folder: the prepared folder; made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / ".journal"
        self._path = self._folder / "images.jsonl"
        self._images = folder / "images"
        self._stale_lines = False
        self.records: dict[str, Record] = {}
        """File name of each PNG -> its record."""

    def __enter__(self) -> Journal:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self._folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            raise DataError(f"{self._folder.parent}: another prepare is writing this folder") from None
        self._load()
        # Unbuffered: a line is in the file when its image is said to be done.
        self._file = self._path.open("ab", buffering=0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._lock.close()

    def done(self, file_name: str, made_from: str) -> bool:
        """Whether the PNG is there as recorded, made from this source with these options."""
        record = self.records.get(file_name)
        if record is None or record.made_from != made_from:
            return False
        try:
            return (self._images / file_name).stat().st_size == record.png_size
        except OSError:
            return False

    def add(self, record: Record) -> None:
        """Note a PNG that has just been written."""
        self._stale_lines |= record.file_name in self.records
        self.records[record.file_name] = record
        append(self._file, self._path, _line(record))

    def forget(self, file_name: str) -> None:
        """Remove a PNG whose source can no longer be read."""
        (self._images / file_name).unlink(missing_ok=True)
        self._stale_lines |= self.records.pop(file_name, None) is not None

    def tidy(self) -> None:
        """Drop lines that later ones replaced."""
        if self._stale_lines:
            write_bytes(self._path, b"".join(_line(self.records[name]) for name in sorted(self.records)))
            self._stale_lines = False

    def _load(self) -> None:
        """Read the lines; one that a killed run left unfinished is ignored, and its image made again."""
        if not self._path.exists():
            return
        data = self._path.read_bytes()
        for line in data.splitlines():
            try:
                fields = json.loads(line)
                record = Record(**{**fields, "notes": tuple(fields["notes"])})
            except (ValueError, TypeError, KeyError):
                self._stale_lines = True
                continue
            self._stale_lines |= record.file_name in self.records
            self.records[record.file_name] = record
        if data and not data.endswith(b"\n"):
            with self._path.open("r+b") as file:
                file.truncate(data.rfind(b"\n") + 1)


def _line(record: Record) -> bytes:
    return (json.dumps(dataclasses.asdict(record), ensure_ascii=False) + "\n").encode()
