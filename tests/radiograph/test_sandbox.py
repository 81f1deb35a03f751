"""The decoder's child: killed, stopped, starved, and asked by many."""

import base64
import io
import os
import signal
import threading

import numpy as np
import pydicom
import pytest
from PIL import Image

from covidmm import radiograph
from covidmm.datasets.image_folders import FolderImage
from covidmm.errors import RadiographError
from covidmm.inference.predictor import _radiograph
from covidmm.prepare.pixels import Job, convert
from covidmm.radiograph import sandbox as isolation
from covidmm.radiograph.sandbox import IsolatedReader
from tests.corpus.valid import valid_files

#: A stream of 64 x 56 pixels that ``make fuzz`` found: CharLS 2.4 computes for seconds before it refuses it.
ENDLESS = base64.b64decode(
    "/9j/9wALDABAADgBAREA/9oACAEBAAAAAL379+/Pnrz57/vnv358eK1WrTp0aFD733vvvrrnjnjfjfffbfbbbXXbvuc7yZMWD77r"
    "jjTLC6znOaxrGMWta2LWtSlKWpS2Z1VVZVZVVVZKrKqqqqyqyqqKiKiaSTSaSSSaTSSSTSbFNJUqpUqqpUqqpUqznfeD93+77u+7"
    "/d/533d93+7/O+7/N3+7/d93fd/vX933d93+7/d/F33f7v877u+727v933d93+7/bPu77v87/d93fLf7v933d93+7h7vu77v93+7"
    "7uvu/zv933d937Hf7vu77v87/f27wu/3f7vu77r+7/d93fd/u/V33d9wAAAAAZmPnzx46cuS5YsAAAAAAQCjjjjjjjhjjvu77v87"
    "/d/uu7/d/u/3fQDd/H+77u+7vu/3egAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAADZ"
)


@pytest.fixture(scope="module")
def reader():
    with IsolatedReader(60, 2**31) as made:
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
    with IsolatedReader(60, 2**31) as reader:
        reader.read(content, "x")
        first = reader._child.pid
        os.kill(first, signal.SIGSEGV)
        with pytest.raises(RadiographError, match="x: ended its decoder"):
            reader.read(content, "x")
        assert reader.read(content, "x").pixels.shape == (60, 48)
        assert reader._child.pid != first


def test_a_child_that_hangs_costs_one_file(content):
    with IsolatedReader(60, 2**31) as reader:
        reader.read(content, "x")
        os.kill(reader._child.pid, signal.SIGSTOP)
        reader.timeout_s = 0.1
        with pytest.raises(RadiographError, match=r"x: takes longer than 0\.1 s"):
            reader.read(content, "x")
        reader.timeout_s = 60
        assert reader.read(content, "x").pixels.shape == (60, 48)


def test_a_picture_that_needs_more_memory_than_there_is(content):
    file = io.BytesIO()
    Image.fromarray(np.zeros((9000, 9000), np.uint16)).save(file, "PNG")
    with IsolatedReader(60, 600 * 2**20) as reader:
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


@pytest.fixture
def endless(tmp_path):
    """A JPEG-LS file that takes its decoder seconds."""
    dataset = pydicom.dcmread(io.BytesIO(valid_files()["jpeg_ls.dcm"]))
    dataset.Rows, dataset.Columns, dataset.BitsStored, dataset.HighBit = 64, 56, 12, 11
    dataset.PixelData = pydicom.encaps.encapsulate([ENDLESS])
    dataset.save_as(tmp_path / "endless.dcm")
    return tmp_path / "endless.dcm"


WAYS = {
    "prepare": lambda path: convert(Job(path, path.with_suffix(".png"), "x.png", 64, False)),
    "ensemble": lambda path: FolderImage("image", "study", path).read(),
    "predictor": _radiograph,
}


@pytest.mark.parametrize("way", WAYS)
def test_a_codec_that_does_not_end_costs_one_file_whatever_reads_it(way, endless, tmp_path, monkeypatch):
    with IsolatedReader(60, isolation.DECODE_BYTES) as reader:
        monkeypatch.setattr(isolation, "_shared", lambda: reader)
        path = tmp_path / "good.dcm"
        path.write_bytes(valid_files()["jpeg_ls.dcm"])
        WAYS[way](path)
        reader.timeout_s = 0.5
        with pytest.raises(RadiographError, match=r"endless\.dcm: takes longer than 0\.5 s to decode"):
            WAYS[way](endless)


def test_what_a_child_decodes_is_what_this_process_decodes(tmp_path):
    for name, content in valid_files().items():
        path = tmp_path / name
        path.write_bytes(content)
        found, wanted = isolation.read(path), radiograph.read(path)
        assert (found.pixels == wanted.pixels).all()
        assert (found.header, found.notes) == (wanted.header, wanted.notes)
