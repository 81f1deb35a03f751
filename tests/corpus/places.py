"""What a folder of radiographs may hold beside regular files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tests.corpus.entry import Entry
from tests.corpus.valid import dataset, saved


def place_entries() -> Iterator[Entry]:
    """All of them."""
    yield Entry("folder.dcm", make=Path.mkdir)
    yield Entry("pipe.dcm", make=os.mkfifo)
    yield Entry("device.dcm", make=lambda path: path.symlink_to("/dev/zero"))
    yield Entry("link_to_nothing.dcm", make=lambda path: path.symlink_to("nothing"))
    yield Entry("link_to_itself.dcm", make=lambda path: path.symlink_to(path.name))
    yield Entry("link_to_folder.dcm", make=lambda path: path.symlink_to("."))
    yield Entry("unreadable.dcm", make=_unreadable)


def _unreadable(path: Path) -> None:
    path.write_bytes(saved(dataset("unreadable.dcm")))
    path.chmod(0)
