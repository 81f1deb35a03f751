"""One bad file of the corpus, and what is expected of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.corpus.valid import dataset, saved

#: Puts an entry at a path.
Maker = Callable[[Path], object]


@dataclass(frozen=True)
class Entry:
    """One bad file.

    Attributes:
        name: its file name, unique in the corpus.
        expected: part of the error line of ``radiograph.read``, or None where an image comes out.
        header: the same of ``radiograph.read_header``.
        content: its bytes; None for what is no file of bytes (a pipe, a folder, a link).
        make: puts what is no file of bytes at a path.
    """

    name: str
    expected: str | None
    header: str | None = None
    content: bytes | None = None
    make: Maker | None = None

    def write(self, path: Path) -> None:
        """Put it at a path."""
        if self.make is not None:
            self.make(path)
        else:
            path.write_bytes(self.content or b"")


def dicom(name: str, expected: str | None, header: str | None = None, **attributes: Any) -> Entry:
    """A valid 12-bit file with some attributes changed, or, where None, left out."""
    return Entry(name, expected, header, saved(dataset(name, **attributes)))
