"""The decoder's child: killed, stopped, starved, and asked by many."""

import io
import os
import signal
import threading

import numpy as np
import pydicom
import pytest
from PIL import Image

from covidmm import radiograph
from covidmm.errors import RadiographError
from covidmm.isolation import IsolatedReader


@pytest.fixture(scope="module")
def reader():
    with IsolatedReader(20, 2**31) as made:
        yield made


@pytest.fixture
def content(make, tmp_path):
    make.dicom(tmp_path / "a.dcm", make.picture(3), study="study", patient="patient")
    return (tmp_path / "a.dcm").read_bytes()


def test_it_reads_what_the_plain_reader_reads(reader, content, tmp_path):
    wanted = radiograph.read(tmp_path / "a.dcm")
    found = reader.read(content, "name")
    assert (found.pixels == wanted.pixels).all()
    assert not found.pixels.flags.writeable
    assert vars(found.header) | {"path": None} == vars(wanted.header) | {"path": None}
    assert (str(found.header.path), found.notes) == ("name", wanted.notes)


@pytest.mark.parametrize("bad", [b"", b"x", b"\x89PNG\r\n\x1a\nxxxx", b"\xff\xd8\xff\xe0"])
def test_a_bad_file_is_one_line_with_its_name(reader, content, bad):
    with pytest.raises(RadiographError, match=r"^the name: [^/\n]+$"):
        reader.read(bad, "the name")
    assert reader.read(content, "x").pixels.shape == (60, 48)


def test_a_child_that_dies_costs_one_file(content):
    with IsolatedReader(20, 2**31) as reader:
        reader.read(content, "x")
        first = reader._child.pid
        os.kill(first, signal.SIGSEGV)
        with pytest.raises(RadiographError, match="x: ended its decoder"):
            reader.read(content, "x")
        assert reader.read(content, "x").pixels.shape == (60, 48)
        assert reader._child.pid != first


def test_a_child_that_hangs_costs_one_file(content):
    with IsolatedReader(3, 2**31) as reader:
        reader.read(content, "x")
        os.kill(reader._child.pid, signal.SIGSTOP)
        with pytest.raises(RadiographError, match="x: takes longer than 3 s"):
            reader.read(content, "x")
        assert reader.read(content, "x").pixels.shape == (60, 48)


def test_a_picture_that_needs_more_memory_than_there_is(content):
    file = io.BytesIO()
    Image.fromarray(np.zeros((9000, 9000), np.uint16)).save(file, "PNG")
    with IsolatedReader(20, 600 * 2**20) as reader:
        reader.read(content, "x")
        with pytest.raises(RadiographError, match=r"large: (does not fit into memory|ended its decoder)"):
            reader.read(file.getvalue(), "large")
        assert reader.read(content, "x").pixels.shape == (60, 48)


def test_a_dicom_that_declares_more_than_any_radiograph(reader, content):
    dataset = pydicom.dcmread(io.BytesIO(content))
    dataset.Rows = dataset.Columns = 65535
    file = io.BytesIO()
    dataset.save_as(file)
    with pytest.raises(RadiographError, match="declares 65535 x 65535 pixels"):
        reader.read(file.getvalue(), "x")


def test_threads_share_it(reader, content):
    found = []
    threads = [threading.Thread(target=lambda: found.append(reader.read(content, "x").pixels.sum())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len(set(found)) == 1
