"""What a folder of radiographs may hold that is no file of bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tests.corpus.entry import Entry
from tests.corpus.valid import valid_files


def place_entries() -> Iterator[Entry]:
    """All of them."""
    yield Entry("folder.dcm", "is a folder", "is a folder", make=Path.mkdir)
    yield Entry("pipe.dcm", _IRREGULAR, _IRREGULAR, make=os.mkfifo)
    yield Entry("device.dcm", _IRREGULAR, _IRREGULAR, make=lambda path: path.symlink_to("/dev/zero"))
    yield Entry("link_to_nothing.dcm", "no such file", "no such file", make=lambda path: path.symlink_to("nothing"))
    yield Entry("link_to_itself.dcm", "symbolic link", "symbolic link", make=lambda path: path.symlink_to(path.name))
    yield Entry("link_to_folder.dcm", "is a folder", "is a folder", make=lambda path: path.symlink_to("."))
    yield Entry("unreadable.dcm", "may not be read", "may not be read", make=_unreadable)


_IRREGULAR = "is not a regular file"


def _unreadable(path: Path) -> None:
    path.write_bytes(valid_files()["explicit.dcm"])
    path.chmod(0)
