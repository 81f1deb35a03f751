import errno
import json
import os
from pathlib import Path

import pytest

from covidmm.atomic import json_bytes, write_bytes, write_if_changed


def test_replaces_in_one_step(tmp_path):
    path = tmp_path / "file"
    write_bytes(path, b"one")
    write_bytes(path, b"two")
    assert path.read_bytes() == b"two"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_bytes(path, b"old")

    def full(self, data):
        with self.open("wb") as file:
            file.write(data[:1])
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_unchanged_file_is_not_touched(tmp_path):
    path = tmp_path / "file"
    write_bytes(path, b"same")
    os.utime(path, ns=(1, 1))
    write_if_changed(path, b"same")
    assert path.stat().st_mtime_ns == 1
    write_if_changed(path, b"other")
    assert path.read_bytes() == b"other"


def test_json_is_read_back_and_refuses_nan():
    value = {"name": "Röntgen", "boxes": [[1.5, 2]]}
    data = json_bytes(value)
    assert json.loads(data) == value
    assert data == json_bytes(json.loads(data))
    with pytest.raises(ValueError, match="Out of range"):
        json_bytes(float("nan"))
