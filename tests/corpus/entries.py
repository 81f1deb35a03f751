"""The corpus of bad radiographs: damaged, contradictory and hostile files.

Made anew each time, the same bytes each time; 5 MB in all. To test a reader of your own with it::

    for path, entry in write_corpus(folder).items():
        ...  # entry.expected: None for an image, else a part of the error's one line
"""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path

from tests.corpus.entry import Entry
from tests.corpus.pictures import picture_entries
from tests.corpus.places import place_entries
from tests.corpus.streams import stream_entries
from tests.corpus.tags import tag_entries


@cache
def entries() -> tuple[Entry, ...]:
    """The whole corpus."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, on what is wrong on purpose
        return *tag_entries(), *stream_entries(), *picture_entries(), *place_entries()


def write_corpus(folder: Path, regular: bool = False) -> dict[Path, Entry]:
    """Write the corpus into a folder; returns path -> entry.

    Args:
        folder: made if it is not there.
        regular: only files of bytes, no links, pipes or folders.
    """
    folder.mkdir(parents=True, exist_ok=True)
    placed = {folder / entry.name: entry for entry in entries() if entry.content is not None or not regular}
    for path, entry in placed.items():
        entry.write(path)
    return placed
