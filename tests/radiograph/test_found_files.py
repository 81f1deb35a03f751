"""Files of a folder are told apart by what they hold."""

import os
import shutil
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import BasicTextSRStorage, GrayscaleSoftcopyPresentationStateStorage, ImplicitVRLittleEndian

from covidmm.radiograph import found_files
from covidmm.radiograph.found_files import find_radiographs, identify, name_of
from tests.corpus.valid import SYNTAXES, compressed, dataset, picture, saved, smooth

PYDICOM_FILES = Path(pydicom.__file__).parent / "data/test_files"


@pytest.mark.parametrize(
    "name",
    [
        *("CR.1.2.276.0.7230010.3.1.4.1", "1.2.840.113619.2.1.77", "IM000001.IMA", "I0000.img", "scan.dic", "IM-0001"),
        *("a.dcm", "a.DICOM", "report.txt", "a.png", "two\nlines", "=1+1", os.fsdecode(b"\xff\xfe")),
    ],
)
def test_dicom_is_found_under_any_name(tmp_path, name):
    (tmp_path / name).write_bytes(saved(dataset("one")))
    (found,) = find_radiographs(tmp_path)
    header = dataset("one")
    assert found == (tmp_path / name, None, header.StudyInstanceUID, header.SOPInstanceUID)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_identifiers_of_every_transfer_syntax(tmp_path, syntax):
    (tmp_path / "file").write_bytes(compressed("one", SYNTAXES[syntax]))
    assert identify(tmp_path / "file")[1:] == (None, dataset("one").StudyInstanceUID, dataset("one").SOPInstanceUID)


def test_the_short_cut_reads_what_pydicom_reads():
    short = 0
    for path in sorted(path for path in PYDICOM_FILES.rglob("*") if path.is_file()):
        found = found_files._quickly(path)
        if found is not None:
            header = pydicom.dcmread(path, stop_before_pixels=True)
            wanted = [str(header.get(name) or "") or None for name in ("StudyInstanceUID", "SOPInstanceUID")]
            assert [found.study, found.image] == wanted, path
            short += 1
    assert short > 50


def test_dicom_without_preamble_is_found(tmp_path):
    made = dataset("one")
    del made.file_meta
    for name, implicit in (("implicit", True), ("explicit", False)):
        with (tmp_path / name).open("wb") as file:
            pydicom.dcmwrite(file, made, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
        assert (tmp_path / name).read_bytes()[:2] == b"\x08\x00"
    for found in find_radiographs(tmp_path):
        assert (found.cause, found.image) == (None, made.SOPInstanceUID), found


def test_a_preamble_that_begins_like_a_tiff_is_dicom(tmp_path):
    content = saved(dataset("one"))
    (tmp_path / "dual").write_bytes(b"II*\x00" + content[4:])
    assert identify(tmp_path / "dual").image == dataset("one").SOPInstanceUID


def object_without_image(kind):
    made = dataset("one", Rows=None, Columns=None, PixelData=None)
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = kind
    return made


@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [
        ("notes.txt", b"not an image", "but text"),
        ("labels.csv", b"id,label\n1,2\n", "but text"),
        ("README", b"read me", "but text"),
        ("empty", b"", "is empty"),
        ("report.pdf", b"%PDF-1.4 ...", "but a PDF"),
        ("a.zip", b"PK\x03\x04\x14\x00", "but a ZIP archive"),
        ("a.tar.gz", b"\x1f\x8b\x08\x00", "compressed by gzip"),
        ("model.bin", bytes(300), "is neither DICOM nor PNG, JPEG or TIFF"),
        (".hidden.dcm", saved(dataset("one")), "is hidden"),
        (".git/one", saved(dataset("one")), "is hidden"),
        ("sr.dcm", saved(object_without_image(BasicTextSRStorage)), "holds no image: Basic Text SR Storage"),
        ("gsps", saved(object_without_image(GrayscaleSoftcopyPresentationStateStorage)), "Presentation State"),
        ("dx.dcm", saved(dataset("one", Rows=None, PixelData=None)), "holds no image: Digital X-Ray Image Storage"),
        ("DICOMDIR", (PYDICOM_FILES / "dicomdirtests/DICOMDIR").read_bytes(), "Media Storage Directory"),
        ("number", b"\x08\x00" * 200, ""),
    ],
)
def test_what_is_no_radiograph_says_why(tmp_path, name, content, cause):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(content)
    (found,) = find_radiographs(tmp_path)
    assert found.path == tmp_path / name
    assert found.cause
    assert cause in found.cause


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_pictures_are_found_under_any_name(tmp_path, kind):
    (tmp_path / "film.1").write_bytes(picture(smooth(255, "uint8"), kind))
    assert identify(tmp_path / "film.1") == (tmp_path / "film.1", None, None, None)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("text.dcm", b"nothing"),
        ("text.png", b"nothing"),
        ("cut.dcm", saved(dataset("one"))[:300]),
        *(("cut", saved(dataset("one"))[:size]) for size in (250, 300, 340, 399, 500)),
        ("no_rows", saved(dataset("one", Rows=None))),
    ],
)
def test_what_claims_to_be_a_radiograph_is_one_that_cannot_be_read(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert identify(tmp_path / name).cause is None


@pytest.mark.usefixtures("_locked")
def test_links_pipes_and_folders_that_cannot_be_read(tmp_path):
    (tmp_path / "one").write_bytes(saved(dataset("one")))
    (tmp_path / "link").symlink_to(tmp_path / "one")
    (tmp_path / "broken").symlink_to(tmp_path / "nothing")
    (tmp_path / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "locked").mkdir()
    (tmp_path / "locked/two").write_bytes(saved(dataset("two")))
    found = {one.path.name: one.cause for one in find_radiographs(tmp_path)}
    assert found == {
        "one": None,
        "link": None,
        "broken": "No such file or directory",
        "loop": "is a link to a folder, which is not followed",
        "pipe": "is not a regular file",
        "locked": "is a folder that cannot be read: Permission denied",
    }


def test_every_file_of_pydicom_is_told_apart():
    found = {one.path.name: one.cause for one in find_radiographs(PYDICOM_FILES)}
    for name in ("CT_small.dcm", "MR_small_bigendian.dcm", "image_dfl.dcm", "no_meta.dcm", "JPGExtended.dcm"):
        assert found[name] is None
    for name in ("test-SR.dcm", "rtplan.dcm", "waveform_ecg.dcm", "DICOMDIR-nopatient", "test1.json", "zipMR.gz"):
        assert found[name]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("film.png", "film"), ("1.2.840.77", "1.2.840.77"), ("IM-0001", "IM-0001"), ("CR.1.2.dcm", "CR.1.2")],
)
def test_a_file_s_name(name, wanted):
    assert name_of(Path(name)) == wanted


def test_implicit_headers_have_their_short_cut(tmp_path):
    (tmp_path / "one").write_bytes(compressed("one", ImplicitVRLittleEndian))
    assert found_files._quickly(tmp_path / "one") == identify(tmp_path / "one")
    shutil.copy(tmp_path / "one", tmp_path / "cut")
    os.truncate(tmp_path / "cut", 200)
    assert found_files._quickly(tmp_path / "cut") is None
