import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from covidmm import radiograph
from covidmm.errors import RadiographError
from covidmm.prepare.near_duplicates import thumbnail
from covidmm.prepare.pixels import Job, Record, convert, fingerprint


def job_of(tmp_path, source, max_size=1024, mask_markers=False):
    return Job(source, tmp_path / "out/s/a.png", "s/a.png", max_size, mask_markers)


def test_writes_the_display_grey_losslessly(tmp_path, make):
    make.dicom(tmp_path / "a.dcm", make.picture(1), patient="p")
    record = convert(job_of(tmp_path, tmp_path / "a.dcm"))
    png = cv2.imread(str(tmp_path / "out/s/a.png"), cv2.IMREAD_UNCHANGED)
    assert (png.dtype, png.shape) == (np.uint8, (60, 48))
    np.testing.assert_array_equal(png, radiograph.read(tmp_path / "a.dcm").pixels)
    assert (record.width, record.height) == (48, 60)
    header = record.header
    assert (header.width, header.height, header.path) == (48, 60, Path())
    assert (header.patient, header.sex, header.modality, header.photometric) == ("p", "F", "DX", "MONOCHROME2")
    assert (header.manufacturer, header.body_part, header.bits_stored) == (None, None, 12)
    assert header.transfer_syntax == "1.2.840.10008.1.2.1"  # explicit little endian
    assert record.png_size == (tmp_path / "out/s/a.png").stat().st_size
    assert record.pixels_sha256 == hashlib.sha256(b"(60, 48)" + png.tobytes()).hexdigest()
    np.testing.assert_array_equal(record.pixels(), thumbnail(png))
    assert Record.from_json(json.loads(json.dumps(record.to_json()))) == record


def test_shrinks_but_keeps_the_aspect(tmp_path, make):
    make.dicom(tmp_path / "a.dcm", make.picture(1, 600, 400))
    record = convert(job_of(tmp_path, tmp_path / "a.dcm", max_size=300))
    assert (record.height, record.width) == (300, 200)
    assert (record.header.height, record.header.width) == (600, 400)


def test_masks_markers_where_asked(tmp_path):
    pixels = np.full((300, 260), 60, np.uint8)
    cv2.putText(pixels, "L", (220, 40), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 255, 2)
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    plain, masked = (convert(job_of(tmp_path, tmp_path / "a.png", mask_markers=on)) for on in (False, True))
    assert (plain.notes, masked.notes) == ((), ("1 marker regions masked",))
    assert plain.made_from != masked.made_from
    assert cv2.imread(str(tmp_path / "out/s/a.png"), cv2.IMREAD_UNCHANGED).max() < 70


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "truncated", "no pixels"])
def test_an_unreadable_file_leaves_nothing_behind(tmp_path, make, kind):
    source = tmp_path / "a.dcm"
    make.dicom(source, make.picture(1))
    whole = source.read_bytes()
    contents = {"empty": b"", "text": b"hello\n", "truncated": whole[:-2000], "no pixels": whole[:400]}
    source.unlink() if kind == "missing" else source.write_bytes(contents[kind])
    with pytest.raises(RadiographError, match=r"a\.dcm"):
        convert(job_of(tmp_path, source))
    assert not (tmp_path / "out").exists()


def test_the_fingerprint_changes_with_source_and_size(tmp_path):
    source = tmp_path / "a"
    source.write_bytes(b"1")
    first = fingerprint(source, 512, False)
    assert fingerprint(source, 512, False) == first
    assert fingerprint(source, 1024, False) != first
    assert fingerprint(source, 512, True) != first
    source.write_bytes(b"22")
    assert fingerprint(source, 512, False) != first
