"""One bad file of the corpus, and what is expected of it."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.corpus.valid import dataset, saved

#: What is expected of each entry, by its name.
MANIFEST = Path(__file__).with_name("expected.csv")


@dataclass(frozen=True)
class Entry:
    """One bad file.

    Attributes:
        name: its file name, unique in the corpus.
        content: its bytes; None for what is no file of bytes (a pipe, a folder, a link).
        make: puts what is no file of bytes at a path.
    """

    name: str
    content: bytes | None = None
    make: Callable[[Path], object] | None = None

    @property
    def expected(self) -> str | None:
        """Part of the error line of ``radiograph.read``, None where an image comes out."""
        return _manifest()[self.name]["read"] or None

    @property
    def expected_header(self) -> str | None:
        """The same of ``radiograph.read_header``."""
        return _manifest()[self.name]["header"] or None

    def write(self, path: Path) -> None:
        """Put it at a path."""
        if self.make is not None:
            self.make(path)
        else:
            path.write_bytes(self.content or b"")


def dicom(name: str, **attributes: Any) -> Entry:
    """A valid 12-bit file with some attributes changed, or, where None, left out."""
    return Entry(name, saved(dataset(name, **attributes)))


@cache
def _manifest() -> dict[str, dict[str, str]]:
    with MANIFEST.open(newline="") as file:
        return {row["name"]: row for row in csv.DictReader(file)}
