"""Remembers which images of a prepared folder are done, so that a killed run goes on where it stopped."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import json
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from covidmm.errors import DataError
from covidmm.prepare.pixels import Record
from covidmm.prepare.scratch import Scratch
from covidmm.utils.fileio import append, json_value, whole_file


class Journal:
    """A file of one JSON line per written PNG, appended while a run is under way.

    A context manager: it holds a lock, so that two runs cannot write one folder at the same time, and a
    :class:`Scratch` folder, ``scratch``, for what the run keeps of every image.

    Args:
        folder: the prepared folder; made if it is not there.
    """

    scratch: Scratch

    def __init__(self, folder: Path) -> None:
        self._folder = folder / ".journal"
        self._path = self._folder / "images.jsonl"
        self._images = folder / "images"
        self._stale_lines = False
        self._open = ExitStack()

    def __enter__(self) -> Journal:
        self._folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as opened:
            lock = opened.enter_context((self._folder / "lock").open("w"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    raise
                raise DataError(f"{self._folder.parent}: another prepare is writing this folder") from None
            opened.callback(self._leave)
            self.scratch = opened.enter_context(Scratch(self._folder / "scratch"))
            # Unbuffered: a line is in the file when its image is said to be done.
            self._file = opened.enter_context(self._path.open("ab", buffering=0))
            self._lines = opened.enter_context(self._path.open("rb"))
            self._offsets = self.scratch.map()
            self._load()
            self._open = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def record(self, file_name: str) -> Record:
        """The record of a PNG.

        Raises:
            KeyError: there is none.
        """
        return _parse(self._line(self._offsets[file_name]))

    def done(self, file_name: str, made_from: str) -> bool:
        """Whether the PNG is there as recorded, made from this source with these options."""
        try:
            record = self.record(file_name)
        except KeyError:
            return False
        try:
            return record.made_from == made_from and (self._images / file_name).stat().st_size == record.png_size
        except OSError:
            return False

    def add(self, record: Record) -> None:
        """Note a PNG that has just been written."""
        line = (json.dumps(dataclasses.asdict(record), ensure_ascii=False) + "\n").encode()
        append(self._file, self._path, line)
        self._note(record.file_name, self._end)
        self._end += len(line)

    def forget(self, file_name: str) -> None:
        """Remove a PNG whose source can no longer be read."""
        (self._images / file_name).unlink(missing_ok=True)
        self._stale_lines |= self._offsets.pop(file_name, None) is not None

    def tidy(self) -> None:
        """Drop lines that later ones replaced; the last that is done with a journal."""
        if self._stale_lines:
            with whole_file(self._path) as file:
                for _, offset in self._offsets.items():
                    file.write(self._line(offset))

    def _leave(self) -> None:
        """Where nothing was done and nobody put anything into the folder, leave none behind."""
        own = {self._folder / "lock", self._path}
        if {*self._folder.iterdir()} <= own and not (self._path.exists() and self._path.stat().st_size):
            for path in own:
                path.unlink(missing_ok=True)
            self._folder.rmdir()

    def _load(self) -> None:
        """Read the lines; one that a killed run left unfinished is ignored, and its image made again."""
        self._end = 0
        for line in self._lines:
            if not line.endswith(b"\n"):
                self._file.truncate(self._end)
                break
            try:
                self._note(_parse(line).file_name, self._end)
            except (ValueError, TypeError, KeyError):
                self._stale_lines = True
            self._end += len(line)

    def _note(self, file_name: str, offset: int) -> None:
        self._stale_lines |= file_name in self._offsets
        self._offsets[file_name] = offset

    def _line(self, offset: int) -> bytes:
        self._lines.seek(offset)
        return self._lines.readline()


def _parse(line: bytes) -> Record:
    fields = json_value(line)
    return Record(**{**fields, "notes": tuple(fields["notes"])})
