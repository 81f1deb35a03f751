"""Compressed frames whose own header contradicts the DICOM attributes, and every transfer syntax that is read."""

import io

import cv2
import gdcm
import numpy as np
import pydicom
import pytest
from openjpeg.utils import encode_array
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000,
    UID,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from covidmm import radiograph
from covidmm.errors import RadiographError
from covidmm.radiograph.stored_bits import Layout
from tests.corpus.valid import dataset, encapsulated
from tests.radiograph.dicom_files import near, pixels_of, ramp, stretched, written

SIGNS = {True: "signed values", False: "unsigned values"}


def by_gdcm(path, syntax):
    """The same file in another transfer syntax, compressed by GDCM, which gives frames of all allocated bits."""
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(syntax))))
    change.SetInput(reader.GetImage())
    assert change.Change()
    packed = path.with_name(f"packed_{path.name}")
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(packed))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return packed


def jpeg_2000(path, values, precision, syntax=JPEG2000Lossless, **attributes):
    """A file whose frame has the sign of the values and a precision; the header says what the attributes say."""
    frame = encode_array(values, bits_stored=precision, photometric_interpretation=2, use_mct=False)
    path.write_bytes(encapsulated(dataset(path.name, values, precision, **attributes), syntax, frame))
    return path


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEG2000])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("precision", [8, 12, 13, 16])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_the_sign_of_the_frame_wins_with_a_note(tmp_path, syntax, signed, precision, photometric):
    low, high = Layout(precision, 0, signed).limits
    values = ramp(low, high, f"{'i' if signed else 'u'}{1 if precision == 8 else 2}", side=64)
    for declared in (signed, not signed):
        path = jpeg_2000(
            tmp_path / "a.dcm", values, precision, syntax,
            PixelRepresentation=int(declared), PhotometricInterpretation=photometric,
        )  # fmt: skip
        found, notes = pixels_of(path)
        assert near(found, stretched(-values.astype(int) if photometric == "MONOCHROME1" else values))
        said = f"its JPEG stream holds {SIGNS[signed]}, its header says {SIGNS[declared]}: the stream's taken"
        assert notes == (() if declared == signed else (said,))


def test_a_sign_that_the_writer_of_the_frame_forgot_is_the_header_s():
    path = get_testdata_file("J2K_pixelrep_mismatch.dcm")
    found = radiograph.read(path)
    made = pydicom.dcmread(path)
    centre, width = made.WindowCenter[0] - 0.5, made.WindowWidth[0] - 1
    wanted = np.clip(made.pixel_array, centre - width / 2, centre + width / 2)
    assert near(found.pixels.astype(int), stretched(wanted))
    (note,) = found.notes
    assert "holds unsigned values, its header says signed values: the header's" in note


@pytest.mark.parametrize("precision", [10, 12, 16])
@pytest.mark.parametrize("declared", [1, 8, 9, 11, 12, 14, 16])
@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, JPEGLosslessSV1])
def test_the_bits_of_the_frame_win_with_a_note(tmp_path, syntax, precision, declared):
    values = ramp(0, 2**precision - 1, np.uint16, side=64)
    path = tmp_path / "a.dcm"
    if syntax == JPEG2000Lossless:
        jpeg_2000(path, values, precision)
    elif syntax == JPEGLSLossless:
        made = dataset("a", values, precision)
        made.compress(syntax, generate_instance_uid=False)
        made.save_as(path, enforce_file_format=True)
    else:
        precision = 16  # GDCM's frames have all allocated bits
        values = ramp(0, 2**16 - 1, np.uint16, side=64)
        path = by_gdcm(written(path, values, 16), syntax)
    made = pydicom.dcmread(path)
    made.BitsStored, made.HighBit = declared, declared - 1
    made.save_as(path, enforce_file_format=True)
    found, notes = pixels_of(path)
    assert near(found, stretched(values))
    said = f"its JPEG stream holds {precision} bits, its header says {declared}: the stream's taken"
    assert notes == (() if declared == precision else (said,))


@pytest.mark.parametrize(
    "attributes", [{"HighBit": 31}, {"BitsStored": 0}, {"BitsStored": 33}, {"BitsAllocated": 8}, {"HighBit": 2}]
)
def test_bits_that_cannot_be_are_the_frame_s(tmp_path, attributes):
    values = ramp(0, 4095, np.uint16, side=64)
    path = jpeg_2000(tmp_path / "a.dcm", values, 12, **attributes)
    found, notes = pixels_of(path)
    assert near(found, stretched(values))
    assert notes or attributes == {"BitsAllocated": 8}


@pytest.mark.parametrize("syntax", [JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless, RLELossless])
@pytest.mark.parametrize("signed", [False, True])
def test_frames_of_all_allocated_bits_are_no_contradiction(tmp_path, syntax, signed):
    values = ramp(*Layout(12, 0, signed).limits, np.int16 if signed else np.uint16, side=64)
    found, notes = pixels_of(by_gdcm(written(tmp_path / "a.dcm", values, 12), syntax))
    assert near(found, stretched(values))
    assert notes == ()


@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, JPEGLSLossless, RLELossless])
@pytest.mark.parametrize("signed", [False, True])
def test_overlays_in_the_bits_above_do_not_show_in_compressed_files(tmp_path, syntax, signed):
    values = ramp(*Layout(12, 0, signed).limits, np.int16, side=64)
    cells = (values & 0xFFF).astype(np.uint16)
    cells[10:50:3, 10:50:4] |= 0x8000
    # compressed as cells of 16 bits, and described as what they are afterwards
    path = by_gdcm(written(tmp_path / "a.dcm", cells, 16), syntax)
    made = pydicom.dcmread(path)
    made.BitsStored, made.HighBit, made.PixelRepresentation = 12, 11, int(signed)
    made.save_as(path, enforce_file_format=True)
    found, notes = pixels_of(path)
    assert near(found, stretched(values))
    assert len(notes) == (syntax != RLELossless)


@pytest.mark.parametrize("declared", [1, 3])
@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEG2000Lossless])
def test_the_samples_of_the_frame_win_with_a_note(tmp_path, syntax, declared):
    grey = ramp(0, 255, np.uint8, side=64)
    picture = Image.fromarray(grey if declared == 3 else np.stack([grey, grey, grey], -1))
    file = io.BytesIO()
    if syntax == JPEGBaseline8Bit:
        picture.save(file, "JPEG", quality=100, subsampling=0)
    else:
        picture.save(file, "JPEG2000", no_jp2=True)
    says = {"SamplesPerPixel": declared, "PhotometricInterpretation": "MONOCHROME2" if declared == 1 else "RGB"}
    says |= {"PlanarConfiguration": 0} if declared == 3 else {}
    path = tmp_path / "a.dcm"
    path.write_bytes(encapsulated(dataset("a", grey, 8, **says), syntax, file.getvalue()))
    found, notes = pixels_of(path)
    assert near(found, stretched(grey), levels=3)
    held = 4 - declared
    assert f"its JPEG stream holds {held} samples per pixel, its header says {declared}: the stream's taken" in notes


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEGBaseline8Bit, JPEG2000Lossless])
def test_the_colours_of_a_frame_that_is_called_grey_are_its_own(tmp_path, syntax):
    grey = ramp(0, 255, np.uint8, side=64)
    colours = np.stack([grey, grey // 4, 255 - grey // 2], -1)
    made = dataset("colours", colours, 8, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0)
    if syntax == JPEGBaseline8Bit:
        file = io.BytesIO()
        Image.fromarray(colours).save(file, "JPEG", quality=100, subsampling=0)
        (tmp_path / "a.dcm").write_bytes(encapsulated(made, syntax, file.getvalue()))
        made = pydicom.dcmread(tmp_path / "a.dcm")
    else:
        made.compress(syntax, generate_instance_uid=False)
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    del made.PlanarConfiguration
    made.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    found, _ = pixels_of(tmp_path / "a.dcm")
    assert near(found, stretched(colours @ [0.299, 0.587, 0.114]), levels=8)


def test_floating_point_pixels_need_no_bits_stored(tmp_path):
    values = ramp(-3, 3, np.float32) * 0.7
    gone = dict.fromkeys(("PixelData", "BitsStored", "HighBit", "PixelRepresentation"))
    made = dataset("float", BitsAllocated=32, **gone)
    made.Rows, made.Columns = values.shape
    made.FloatPixelData = values.astype(np.float32).tobytes()
    made.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    assert near(pixels_of(tmp_path / "a.dcm")[0], stretched(values))


@pytest.mark.parametrize("allocated", [8, 16])
def test_a_frame_of_8_bits_may_be_declared_as_more(tmp_path, allocated):
    grey = ramp(0, 255, np.uint8, side=64)
    frame = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    bits = 12 if allocated == 16 else 8
    made = dataset("a", grey, bits, BitsAllocated=allocated)
    (tmp_path / "a.dcm").write_bytes(encapsulated(made, JPEGBaseline8Bit, frame))
    found, notes = pixels_of(tmp_path / "a.dcm")
    assert near(found, stretched(grey), levels=3)
    assert notes == (("its JPEG stream holds 8 bits, its header says 12: the stream's taken",) if bits == 12 else ())


def test_jpeg_extended_of_12_bits_is_gdcm_s():
    path = get_testdata_file("JPEG-lossy.dcm")
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    made = pydicom.dcmread(path)
    assert made.file_meta.TransferSyntaxUID == JPEGExtended12Bit
    values = np.frombuffer(reader.GetImage().GetBuffer().encode("utf-8", "surrogateescape"), "u2")
    found = radiograph.read(path)
    assert near(found.pixels.astype(int), stretched(values.reshape(made.Rows, made.Columns)))


def test_jpeg_extended_of_8_bits_is_read_too(tmp_path):
    grey = ramp(0, 255, np.uint8, side=64)
    frame = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    (tmp_path / "a.dcm").write_bytes(encapsulated(dataset("a", grey, 8), JPEGExtended12Bit, frame))
    assert near(pixels_of(tmp_path / "a.dcm")[0], stretched(grey), levels=3)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.53", "1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.92"])
def test_what_is_not_read_is_called_unsupported(tmp_path, syntax):
    path = tmp_path / "a.dcm"
    path.write_bytes(encapsulated(dataset("a"), UID(syntax), b"\xff\xd8" + bytes(50)))
    with pytest.raises(RadiographError) as raised:
        radiograph.read(path)
    assert f"unsupported transfer syntax {syntax}" in str(raised.value)


def test_frames_that_are_not_encapsulated_tell_so_in_one_line(tmp_path):
    made = dataset("a", ramp(0, 4095, np.uint16, side=64))
    made.compress(JPEG2000Lossless, generate_instance_uid=False)
    made.PixelData = encapsulate([b"\xff\x4f\xff\x51" + bytes(30)])
    made.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    with pytest.raises(RadiographError, match="are no JPEG stream"):
        radiograph.read(tmp_path / "a.dcm")
