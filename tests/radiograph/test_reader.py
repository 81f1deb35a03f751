"""The reader on files made here by pydicom, gdcm, pyjpegls, Pillow and OpenCV, and on real ones."""

import dataclasses
import subprocess
import sys
import warnings

import cv2
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from covidmm import radiograph
from covidmm.errors import RadiographError
from covidmm.phantom.dicom import _compress_jpeg_lossless
from covidmm.radiograph.grey import grey_of_stored


def smooth(height=80, width=70, top=4095, dtype=np.uint16):
    rows, columns = np.mgrid[:height, :width]
    return ((rows * 3 + columns * 5) / (height * 3 + width * 5) * top).astype(dtype)


def dicom(pixels=None, bits=12, **attributes):
    pixels = smooth() if pixels is None else pixels
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.3"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.4", "1.2.5"
    dataset.PatientID, dataset.PatientSex, dataset.PatientAge = "p1", "F", "045Y"
    dataset.ViewPosition, dataset.Modality, dataset.Manufacturer = "PA", "DX", "  "
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = pixels.itemsize * 8, bits, bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes()
    for name, value in attributes.items():
        setattr(dataset, name, value)
    return dataset


def save(dataset, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.save_as(path, enforce_file_format=True)
    return path


def plain(path):
    dataset = pydicom.dcmread(path)
    shown = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset).astype(np.float64)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        shown = shown.max() - shown
    shown -= shown.min()
    return (shown / shown.max() * 255).astype(np.uint8)


def test_a_radiograph_knows_what_its_header_says(tmp_path):
    found = radiograph.read(save(dicom(), tmp_path / "a.dcm"))
    assert found.header == radiograph.Header(
        tmp_path / "a.dcm",
        height=80,
        width=70,
        study="1.2.4",
        series="1.2.5",
        image="1.2.3",
        photometric="MONOCHROME2",
        view="PA",
        sex="F",
        age=45,
        modality="DX",
        manufacturer=None,
        body_part=None,
        bits_stored=12,
        transfer_syntax=str(ExplicitVRLittleEndian),
        patient="p1",
        frames=1,
    )
    assert found.pixels.shape == (80, 70)
    assert found.pixels.dtype == np.uint8
    assert (found.pixels.min(), found.pixels.max()) == (0, 255)
    assert found.notes == ()


def test_a_radiograph_cannot_be_changed(tmp_path):
    found = radiograph.read(save(dicom(), tmp_path / "a.dcm"))
    with pytest.raises(ValueError, match="read-only"):
        found.pixels[0, 0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.header.height = 3


@pytest.mark.parametrize(
    ("syntax", "bits"),
    [
        (JPEG2000Lossless, 12),
        (JPEG2000Lossless, 16),
        (JPEGLSLossless, 12),
        (JPEGLSLossless, 8),
        (RLELossless, 12),
        (DeflatedExplicitVRLittleEndian, 12),
        (ImplicitVRLittleEndian, 12),
    ],
)
def test_lossless_syntaxes_give_the_uncompressed_picture(tmp_path, syntax, bits):
    pixels = smooth(top=2**bits - 1, dtype=np.uint8 if bits == 8 else np.uint16)
    expected = radiograph.read(save(dicom(pixels, bits), tmp_path / "raw.dcm")).pixels
    packed = dicom(pixels, bits)
    if syntax.is_encapsulated:
        packed.compress(syntax)
    else:
        packed.file_meta.TransferSyntaxUID = syntax
    found = radiograph.read(save(packed, tmp_path / "packed.dcm"))
    assert np.array_equal(found.pixels, expected)
    assert found.header.transfer_syntax == syntax


def test_jpeg_lossless_as_siim_has_it(tmp_path):
    packed = dicom()
    _compress_jpeg_lossless(packed)
    found = radiograph.read(save(packed, tmp_path / "packed.dcm"))
    assert found.header.transfer_syntax == JPEGLosslessSV1
    assert np.array_equal(found.pixels, radiograph.read(save(dicom(), tmp_path / "raw.dcm")).pixels)


def test_jpeg_baseline_as_rsna_has_it(tmp_path):
    pixels = smooth(top=255, dtype=np.uint8)
    dataset = dicom(pixels, 8)
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.PixelData = encapsulate([cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes()])
    dataset["PixelData"].is_undefined_length = True
    found = radiograph.read(save(dataset, tmp_path / "a.dcm"))
    assert np.abs(found.pixels.astype(int) - pixels).mean() < 3


@pytest.mark.parametrize("preamble", [True, False])
def test_big_endian_files_are_read(tmp_path, preamble):
    dataset = dicom()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    dataset.PixelData = smooth().astype(">u2").tobytes()
    dataset.save_as(tmp_path / "big.dcm", implicit_vr=False, little_endian=False, enforce_file_format=preamble)
    expected = radiograph.read(save(dicom(), tmp_path / "raw.dcm")).pixels
    assert np.array_equal(radiograph.read(tmp_path / "big.dcm").pixels, expected)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(("dtype", "bits"), [(np.uint8, 8), (np.uint16, 10), (np.uint16, 16), (np.int16, 12)])
def test_the_picture_is_that_of_the_plain_sequence(tmp_path, photometric, dtype, bits):
    top = 2 ** (bits - 1) - 1 if dtype == np.int16 else 2**bits - 1
    pixels = smooth(top=top, dtype=dtype)
    if dtype == np.int16:
        pixels = (pixels - top // 2).astype(np.int16)
    dataset = dicom(pixels, bits, PhotometricInterpretation=photometric, RescaleSlope=2, RescaleIntercept=-7)
    dataset.WindowCenter, dataset.WindowWidth = [top / 2, 1.0], [top * 1.5, 5.0]
    path = save(dataset, tmp_path / "a.dcm")
    assert np.abs(radiograph.read(path).pixels.astype(int) - plain(path)).max() <= 1


def test_air_is_black_in_both_photometric_interpretations(tmp_path):
    pixels = smooth()
    negative = save(dicom(4095 - pixels, PhotometricInterpretation="MONOCHROME1"), tmp_path / "1.dcm")
    positive = save(dicom(pixels), tmp_path / "2.dcm")
    assert np.array_equal(radiograph.read(negative).pixels, radiograph.read(positive).pixels)


def test_of_several_frames_the_first_is_read_and_said_so(tmp_path):
    frames = np.stack([smooth(), smooth()[::-1]])
    found = radiograph.read(save(dicom(frames, NumberOfFrames=2), tmp_path / "a.dcm"))
    assert np.array_equal(found.pixels, radiograph.read(save(dicom(), tmp_path / "b.dcm")).pixels)
    assert found.header.frames == 2
    assert found.notes == ("first of 2 frames",)


def test_excess_bytes_are_ignored_and_said_so(tmp_path):
    dataset = dicom()
    dataset.PixelData += bytes(64)
    found = radiograph.read(save(dataset, tmp_path / "a.dcm"))
    assert found.notes == ("excess pixel bytes ignored",)


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
def test_colour_becomes_grey(tmp_path, photometric):
    grey = smooth(top=255, dtype=np.uint8)
    colours = np.stack([grey, *([np.full_like(grey, 128)] * 2 if photometric == "YBR_FULL" else [grey, grey])], -1)
    dataset = dicom(grey, 8, PhotometricInterpretation=photometric, SamplesPerPixel=3, PlanarConfiguration=0)
    dataset.PixelData = colours.tobytes()
    found = radiograph.read(save(dataset, tmp_path / "a.dcm"))
    assert np.abs(found.pixels.astype(int) - grey_of_stored(grey, dicom(grey, 8), [])).max() <= 2


def test_a_palette_is_looked_up(tmp_path):
    dataset = dicom(np.array([[0, 1], [2, 0]], np.uint8), 8, PhotometricInterpretation="PALETTE COLOR")
    for colour in ("Red", "Green", "Blue"):
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [4, 0, 8])
        setattr(dataset, f"{colour}PaletteColorLookupTableData", bytes([10, 200, 105, 0]))
    assert radiograph.read(save(dataset, tmp_path / "a.dcm")).pixels.tolist() == [[0, 255], [127, 0]]


def test_a_file_without_preamble_is_read_if_it_is_an_image(tmp_path):
    dataset = dicom()
    del dataset.file_meta
    dataset.save_as(tmp_path / "old.dcm", implicit_vr=True, little_endian=True, enforce_file_format=False)
    assert radiograph.read(tmp_path / "old.dcm").pixels.shape == (80, 70)


def test_a_header_is_read_without_decoding(tmp_path, monkeypatch):
    path = save(dicom(), tmp_path / "a.dcm")
    expected = radiograph.read(path).header

    def refuse(*args, **kwargs):
        raise AssertionError("a pixel was decoded")

    monkeypatch.setattr("pydicom.pixels.pixel_array", refuse)
    assert radiograph.read_header(path) == expected
    cv2.imwrite(str(tmp_path / "a.png"), smooth(top=255, dtype=np.uint8))
    monkeypatch.setattr(Image.Image, "load", refuse)
    header = radiograph.read_header(tmp_path / "a.png")
    assert (header.height, header.width, header.study) == (80, 70, None)


@pytest.mark.parametrize(
    ("age", "years"), [("045Y", 45), ("006M", 0), ("030M", 2), ("100W", 1), ("", None), ("old", None)]
)
def test_ages_are_completed_years(tmp_path, age, years):
    with pydicom.config.disable_value_validation():
        path = save(dicom(PatientAge=age), tmp_path / "a.dcm")
    assert radiograph.read_header(path).age == years


@pytest.mark.parametrize("suffix", ["png", "tiff", "jpg"])
def test_eight_bit_pictures_stay_as_they_are(tmp_path, suffix):
    pixels = (smooth(top=180, dtype=np.uint8) + 20).astype(np.uint8)
    cv2.imwrite(str(tmp_path / f"a.{suffix}"), pixels, [cv2.IMWRITE_JPEG_QUALITY, 100])
    found = radiograph.read(tmp_path / f"a.{suffix}").pixels
    assert np.abs(found.astype(int) - pixels).max() <= (2 if suffix == "jpg" else 0)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bit_pictures_are_stretched(tmp_path, suffix):
    pixels = smooth(top=40000) + 1000
    cv2.imwrite(str(tmp_path / f"a.{suffix}"), pixels)
    found = radiograph.read(tmp_path / f"a.{suffix}")
    assert np.abs(found.pixels - (pixels - 1000) / (pixels.max() - 1000) * 255).max() <= 1
    assert found.header.bits_stored == 16


def test_a_picture_with_transparency_is_its_colours(tmp_path):
    grey = smooth(top=255, dtype=np.uint8)
    Image.fromarray(np.stack([grey, grey, grey, np.full_like(grey, 255)], -1)).save(tmp_path / "a.png")
    assert np.array_equal(radiograph.read(tmp_path / "a.png").pixels, grey)


def cut(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def bad_files(folder):
    folder.mkdir(exist_ok=True)

    def text():
        (folder / "text.dcm").write_text("These are not the pixels that you are looking for.\n" * 20)
        return folder / "text.dcm"

    def empty():
        (folder / "empty.dcm").touch()
        return folder / "empty.dcm"

    def without(*names, **changes):
        dataset = dicom(**changes)
        for name in names:
            delattr(dataset, name)
        return save(dataset, folder / f"without_{'_'.join(names)}_{'_'.join(changes)}.dcm")

    def unsupported():
        dataset = dicom()
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.MPEG2MPML
        dataset.PixelData = encapsulate([b"\0\0\1\xb3"])
        dataset["PixelData"].is_undefined_length = True
        return save(dataset, folder / "mpeg.dcm")

    def broken_codestream(syntax, name):
        dataset = dicom()
        dataset.compress(syntax)
        data = bytearray(dataset.PixelData)
        data[40:] = bytes(len(data) - 40)
        dataset.PixelData = bytes(data)
        return save(dataset, folder / name)

    def picture(content, name):
        (folder / name).write_bytes(content)
        return folder / name

    png = cv2.imencode(".png", smooth(200, 300, 255, np.uint8))[1].tobytes()
    return {
        "no such file": lambda: folder / "missing.dcm",
        "is a folder": lambda: folder,
        "is empty": empty,
        "is neither DICOM nor PNG": text,
        "has no pixel data": lambda: without("PixelData"),
        "DICOM without Rows": lambda: without("Rows"),
        "DICOM without PhotometricInterpretation": lambda: without("PhotometricInterpretation"),
        "bytes": lambda: cut(save(dicom(), folder / "cut.dcm"), 0.7),
        "unsupported transfer syntax": unsupported,
        "declares an image of 0 rows": lambda: without(Rows=0),
        "more than the": lambda: without(Rows=65535, Columns=65535),
        "contradictory bits": lambda: without(BitsStored=14, HighBit=20),
        "broken_j2k.dcm": lambda: broken_codestream(JPEG2000Lossless, "broken_j2k.dcm"),
        "broken_rle.dcm": lambda: broken_codestream(RLELossless, "broken_rle.dcm"),
        "truncated": lambda: cut(picture(png, "cut.png"), 0.5),
        "junk.png": lambda: picture(png[:8] + bytes(100), "junk.png"),
    }


def test_a_bad_file_is_named_with_its_cause_in_one_line(tmp_path, subtests):
    for message, make in bad_files(tmp_path / "bad").items():
        with subtests.test(message):
            path = make()
            with pytest.raises(RadiographError) as raised:
                radiograph.read(path)
            assert str(raised.value).startswith(f"{path}: ")
            assert message in str(raised.value)
            assert "\n" not in str(raised.value)


def test_resizing_keeps_the_aspect_and_never_enlarges():
    pixels = smooth(300, 200, 255, np.uint8)
    assert radiograph.resize_longer(pixels, 150).shape == (150, 100)
    assert radiograph.resize_longer(pixels, 400) is pixels
    assert radiograph.resize_longer(smooth(1000, 2, 255, np.uint8), 10).shape == (10, 1)


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["siim-mini", "rsna-mini"])
def test_every_real_file_is_read_as_the_plain_sequence_reads_it(realdata, name):
    files = sorted((realdata / name).rglob("*.dcm"))
    assert len(files) == {"siim-mini": 140, "rsna-mini": 150}[name]
    for path in files[:: 1 if name == "siim-mini" else 5]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = plain(path)
        assert np.abs(radiograph.read(path).pixels.astype(int) - expected).max() <= 1, path


def test_a_dataset_in_memory_is_read_as_its_file_is(tmp_path, make):
    make.dicom(tmp_path / "a.dcm", make.picture(3))
    wanted = radiograph.read(tmp_path / "a.dcm")
    found = radiograph.of_dataset(pydicom.dcmread(tmp_path / "a.dcm"))
    assert (found.pixels == wanted.pixels).all()
    assert found.header.study == wanted.header.study
    with pytest.raises(RadiographError, match=r"DICOM object: .*holds no image"):
        radiograph.of_dataset(pydicom.Dataset())


def test_an_array_of_more_than_8_bits_is_stretched():
    found = radiograph.of_array(np.array([[0, 1000], [2000, 4000]], np.uint16))
    assert found.pixels.tolist() == [[0, 63], [127, 255]]
    assert radiograph.of_array(np.array([[3, 9]], np.uint8)).pixels.tolist() == [[3, 9]]


def test_a_shrunk_radiograph_remembers_its_original_size():
    found = radiograph.of_array(np.zeros((200, 100), np.uint8)).shrunk(50)
    assert found.pixels.shape == (50, 25)
    assert (found.header.height, found.header.width) == (200, 100)
    assert not found.pixels.flags.writeable


def test_a_chunk_that_says_it_has_4_gb_asks_for_no_memory(tmp_path):
    whole = cv2.imencode(".png", np.arange(48 * 40, dtype=np.uint8).reshape(48, 40))[1].tobytes()
    data = whole.index(b"IDAT")
    (tmp_path / "a.png").write_bytes(whole[: data - 4] + b"\xff" * 4 + whole[data:])
    program = (
        "import resource, sys\n"
        "from covidmm import radiograph\nfrom covidmm.errors import RadiographError\n"
        "import cv2, PIL.Image\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))\n"
        "try:\n    print(radiograph.read(sys.argv[1]).pixels.shape)\n"
        "except RadiographError as error:\n    print(error)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "a.png"], capture_output=True, text=True, check=True
    ).stdout
    assert "memory" not in said
