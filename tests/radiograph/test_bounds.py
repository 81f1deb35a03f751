"""What is asked of files before they are read."""

import os
import tracemalloc
import zlib

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from covidmm.radiograph import bounds as files
from covidmm.radiograph.bounds import BoundedFile, require_deflated_size, require_file
from tests.corpus.valid import dataset, saved


def test_only_files_of_bytes_and_of_a_bounded_size_pass(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_bytes(b"1234")
    require_file(file)
    for make, cause in (
        (lambda path: path.mkdir(), "is a folder"),
        (os.mkfifo, "not a regular file"),
        (lambda path: path.touch(), "is empty"),
    ):
        path = tmp_path / cause.replace(" ", "_")
        make(path)
        with pytest.raises(ValueError, match=cause):
            require_file(path)
    monkeypatch.setattr(files, "MAX_BYTES", 3)
    with pytest.raises(ValueError, match="has 4 bytes, more than the 3"):
        require_file(file)


def test_a_deflated_file_is_measured_before_it_is_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "deflated.dcm"
    made = dataset("deflated")
    made.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path.write_bytes(saved(made))
    require_deflated_size(path)
    monkeypatch.setattr(files, "MAX_BYTES", 1000)
    with pytest.raises(ValueError, match="unpacks to more than the 1,000 bytes"):
        require_deflated_size(path)
    path.write_bytes(saved(dataset("plain")))
    require_deflated_size(path)
    path.write_bytes(zlib.compress(bytes(10**6)))
    require_deflated_size(path)  # no DICOM at all: nothing would unpack it


def test_a_read_asks_for_no_more_memory_than_the_file_needs(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(range(100)))
    with BoundedFile(path) as file:
        assert file.read(10) == bytes(range(10))
        tracemalloc.start()
        assert file.read(2**32 - 2) == bytes(range(10, 100))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2**20
        assert file.read(2**32 - 2) == b""
        file.seek(90)
        assert file.read() == bytes(range(90, 100))
