import os

import pytest

from covidmm.errors import ConfigError
from covidmm.utils.fileio import require_output


def test_what_can_be_written_passes_and_is_not_made(tmp_path):
    (tmp_path / "old.csv").touch()
    for path, folder in (("old.csv", False), ("new/new.csv", False), ("new", True), (".", True)):
        require_output(tmp_path / path, "--out", folder)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("path", "folder", "cause"),
    [
        ("file", True, "is a file; name a folder"),
        (".", False, "is a folder; name the file to write"),
        ("file/a.csv", False, "cannot be written, .*file is not a folder"),
        ("file/a", True, "cannot be written, .*file is not a folder"),
        ("/dev/null", False, "is a device"),
    ],
)
def test_what_cannot_be_written_is_named(tmp_path, path, folder, cause):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=rf"^--out .*: {cause}"):
        require_output(tmp_path / path, "--out", folder)


def test_a_folder_without_permission_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ConfigError, match=r"^--out .*a\.csv: cannot be written, .* may not be written to"):
        require_output(tmp_path / "a.csv", "--out")
