"""Journals of finished work, from which a killed run resumes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from covidmm.errors import DataError
from covidmm.utils.fileio import append, json_bytes, json_value, naming, whole_file

if TYPE_CHECKING:
    from typing_extensions import Self


class Journal:
    """A file of JSON lines: a header with the fingerprint of the work, then one list of items per finished batch.

    A context manager. ``<path>.lock`` is locked meanwhile, so that two runs cannot write one journal; the lock ends
    with its process, and the file stays until :meth:`remove`.

    Args:
        path: the file; made, with its folder, if it is not there.
        fingerprint: what decides the content, as JSON values. A journal with another one, or of an earlier version of
            covidmm, is emptied.
        resume: False to begin anew.
        busy: the text of the error where another run holds the lock.
    """

    def __init__(
        self,
        path: Path,
        fingerprint: Mapping[str, Any],
        resume: bool = True,
        busy: str | None = None,
    ) -> None:
        self.path = path
        self.fingerprint = json.loads(json.dumps(fingerprint))
        self._resume = resume
        self._busy = busy or f"{path}: another run is writing this file"
        self._lock = FileLock(path.with_name(path.name + ".lock"), timeout=0)
        self.done = 0
        """Items in the file, over all batches."""

    def __enter__(self) -> Self:
        """Lock the file, and drop what cannot be resumed from: another fingerprint, a line that was cut off.

        Raises:
            DataError: another run holds the lock.
            OSError: no space, no permission, ...
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout:
            raise DataError(self._busy) from None
        try:
            # Unbuffered: a line is in the file when append returns.
            self._file = self.path.open("a+b", buffering=0)
            try:
                end = self._resumable() if self._resume else 0
                with naming(self.path):
                    if end != self.path.stat().st_size:
                        self._file.truncate(end)
                if not end:
                    append(self._file, self.path, self._header())
            except BaseException:
                self._file.close()
                raise
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._lock.release()

    def append(self, batch: Sequence[Any]) -> None:
        """Add the items of one batch.

        Raises:
            OSError: no space, ...; what is in the file then is dropped by the next run.
        """
        append(self._file, self.path, json_bytes(batch))
        self.done += len(batch)

    def items(self) -> Iterator[Any]:
        """Every item of every batch, read from the file."""
        with self.path.open("rb") as lines:
            next(lines)
            for line in lines:
                yield from json_value(line)

    def rewrite(self, batches: Iterable[Sequence[Any]]) -> None:
        """Put other batches in place of all that is in the file, in one step; nothing can be appended afterwards."""
        with whole_file(self.path) as file:
            file.write(self._header())
            file.writelines(map(json_bytes, batches))

    def remove(self) -> None:
        """Remove the journal, whose work is done; the last that is done with it."""
        self.path.unlink()
        Path(self._lock.lock_file).unlink()

    def _header(self) -> bytes:
        return json_bytes({"made_from": self.fingerprint})

    def _resumable(self) -> int:
        """Count what an earlier run of the same fingerprint finished; returns where it ends."""
        end = 0
        with self.path.open("rb") as lines:
            for line in lines:
                try:
                    content = json_value(line)
                    if not line.endswith(b"\n") or not (
                        isinstance(content, list) if end else content["made_from"] == self.fingerprint
                    ):
                        break
                except (ValueError, KeyError, TypeError):
                    break
                self.done += len(content) if end else 0
                end += len(line)
        return end
