"""What a job keeps of every image while it runs: on disk, so that its memory does not grow with the data set."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import sqlite3
from collections.abc import ItemsView, Iterable, Iterator, MutableMapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from covidmm.utils.fileio import append, naming

Value = TypeVar("Value")

# KiB of the data base that stay in memory; chosen here.
_CACHE = 8192
# Entries of a map that are read or written at once.
_BLOCK = 256


class Scratch:
    """A folder of files that nobody else reads; made on entering, removed on leaving.

    A context manager. What a killed process left under this name is removed on entering, and never read. The caller
    sees to it that no two processes use one folder.

    Args:
        folder: its parent is there.

    Raises:
        OSError: no space, no permission, a drive that fails, ...; also every map, file and row may raise it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "maps.sqlite"
        self._files: list[BinaryIO] = []
        self._maps = 0

    def __enter__(self) -> Scratch:
        if self._folder.exists():
            shutil.rmtree(self._folder)
        self._folder.mkdir()
        self._connection = sqlite3.connect(self._path, isolation_level=None)
        # One transaction without a journal, which never ends: nobody needs the file after a crash.
        for setting in ("journal_mode = OFF", "synchronous = OFF", "locking_mode = EXCLUSIVE", "temp_store = MEMORY"):
            self.query(f"PRAGMA {setting}")
        self.query(f"PRAGMA cache_size = -{_CACHE}")
        self.query("BEGIN")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
        for file in self._files:
            with suppress(OSError):  # a full disk, which has been said, or what is thrown away
                file.close()
        shutil.rmtree(self._folder, ignore_errors=kind is not None)  # the first error tells more

    def map(self) -> DiskMap[Any]:
        """A new, empty map."""
        self._maps += 1
        table = f"map{self._maps}"
        self.query(f"CREATE TABLE {table} (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID")
        return DiskMap(self, table)

    def file(self) -> BinaryIO:
        """A new, empty file to write and read; it is closed with the scratch folder."""
        file = (self._folder / f"file{len(self._files) + 1}").open("w+b")
        self._files.append(file)
        return file

    def query(self, command: str, *values: Any) -> list[Any]:
        """All rows that an SQL command returns."""
        try:
            return self._connection.execute(command, values).fetchall()
        except sqlite3.OperationalError as error:
            raise self._refusal(error) from error

    def write(self, command: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run an SQL command once for every row of values."""
        try:
            self._connection.executemany(command, rows)
        except sqlite3.OperationalError as error:
            raise self._refusal(error) from error

    def _refusal(self, error: sqlite3.OperationalError) -> OSError:
        """A full or broken disk. SQLite does not pass on what the operating system says, so that is asked again, with
        a write to the same file, of as much as SQLite may have held back."""
        number = errno.ENOSPC if "full" in str(error) else errno.EIO
        try:
            with self._path.open("ab", buffering=0) as file:
                append(file, self._path, bytes(_CACHE << 10))
        except OSError as refusal:
            number = refusal.errno or number
        return OSError(number, os.strerror(number), str(self._path))


class DiskMap(MutableMapping[str, Value]):
    """A dict of a :class:`Scratch` folder: values are pickled, keys come in sorted order.

    It may be changed while it is iterated over; what is put in meanwhile may be seen or not. A value that is changed
    in place has to be put in again.
    """

    def __init__(self, scratch: Scratch, table: str) -> None:
        self._scratch = scratch
        self._table = table
        self._get = f"SELECT value FROM {table} WHERE key = ?"
        self._next = f"SELECT key, value FROM {table} WHERE key > ? ORDER BY key LIMIT {_BLOCK}"
        self._new: dict[bytes, bytes] = {}  # not in the table yet
        self._stored = False

    def __getitem__(self, key: str) -> Value:
        found = self._find(_encoded(key))
        if found is None:
            raise KeyError(key)
        value: Value = pickle.loads(found)
        return value

    def __setitem__(self, key: str, value: Value) -> None:
        self._new[_encoded(key)] = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        if len(self._new) >= _BLOCK:
            self._store()

    def __delitem__(self, key: str) -> None:
        if key not in self:
            raise KeyError(key)
        self._store()
        self._scratch.query(f"DELETE FROM {self._table} WHERE key = ?", _encoded(key))

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._find(_encoded(key)) is not None

    def __len__(self) -> int:
        self._store()
        return int(self._scratch.query(f"SELECT count(*) FROM {self._table}")[0][0])

    def __iter__(self) -> Iterator[str]:
        for key, _ in self._rows():
            yield _decoded(key)

    def items(self) -> ItemsView[str, Value]:
        """Keys and values, read together."""
        return _Items(self)

    def _find(self, key: bytes) -> bytes | None:
        if key in self._new or not self._stored:
            return self._new.get(key)
        found = self._scratch.query(self._get, key)
        return found[0][0] if found else None

    def _rows(self) -> Iterator[tuple[bytes, bytes]]:
        self._store()
        block = self._scratch.query(f"SELECT key, value FROM {self._table} ORDER BY key LIMIT {_BLOCK}")
        while block:
            yield from block
            self._store()
            block = self._scratch.query(self._next, block[-1][0])

    def _store(self) -> None:
        """Put what is new into the table: many at once are quicker."""
        if self._new:
            self._scratch.write(f"INSERT OR REPLACE INTO {self._table} VALUES (?, ?)", self._new.items())
            self._new.clear()
            self._stored = True


class _Items(ItemsView[str, Value]):
    _mapping: DiskMap[Value]

    def __iter__(self) -> Iterator[tuple[str, Value]]:
        for key, value in self._mapping._rows():
            yield _decoded(key), pickle.loads(value)


class Rows:
    """Arrays of one shape, uint8, in a file: appended one by one, read like the rows of one array.

    Args:
        file: as :meth:`Scratch.file` gives it.
        shape: of a row.
    """

    def __init__(self, file: BinaryIO, shape: tuple[int, ...]) -> None:
        self._file = file
        self._shape = shape
        self._size = int(np.prod(shape))
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def append(self, row: NDArray[np.uint8]) -> None:
        """Add one at the end; before the first one is read."""
        with naming(Path(self._file.name)):
            self._file.write(row.tobytes())
        self._rows += 1

    def __getitem__(self, chosen: slice | NDArray[np.intp]) -> NDArray[np.uint8]:
        """Rows (N, *shape): a slice of step 1, or those of an array (N,) of numbers."""
        runs = [chosen.indices(len(self))[:2]] if isinstance(chosen, slice) else [(n, n + 1) for n in chosen.tolist()]
        data = bytearray()
        with naming(Path(self._file.name)):
            for start, stop in runs:
                self._file.seek(start * self._size)
                data += self._file.read(max(0, stop - start) * self._size)
        return np.frombuffer(data, np.uint8).reshape(-1, *self._shape)


def joined(*parts: str) -> str:
    """One string for several: those of two tuples are in the order of the tuples."""
    return "\0\0".join(part.replace("\0", "\0\1") for part in parts)


def parted(text: str) -> tuple[str, ...]:
    """What was :func:`joined`."""
    return tuple(part.replace("\0\1", "\0") for part in text.split("\0\0"))


def _encoded(key: str) -> bytes:
    """Bytes in the order of the strings; names of files may hold what is no text."""
    return key.encode("utf-8", "surrogatepass")


def _decoded(key: bytes) -> str:
    return key.decode("utf-8", "surrogatepass")
