"""Pictures turned by EXIF, Pillow's images, arrays and tensors; and DICOM files whose preamble is a picture's head."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless

from covidmm import radiograph
from covidmm.errors import RadiographError
from covidmm.radiograph import sandbox
from tests.corpus.valid import SYNTAXES, compressed, picture
from tests.radiograph.dicom_files import near, ramp, stretched

HEADS = {
    "tiff": b"II*\0\x54\x01\0\0",
    "tiff_big_endian": b"MM\0*\0\0\x01\x54",
    "big_tiff": b"II+\0\x08\0\0\0",
    "big_tiff_big_endian": b"MM\0+\0\x08\0\0",
    "jpeg": b"\xff\xd8\xff\xe0\0\x10JFIF\0",
    "png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "gif": b"GIF89a",
    "bmp": b"BM\x36\0\x0c\0",
    "whole_picture": picture(np.zeros((2, 2), np.uint8), "PNG")[:128],
}
GREY = np.array(ramp(0, 255, np.uint8)[:, :28])


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("syntax", ["explicit", "big_endian", "deflated", "jpeg_2000", "rle"])
def test_dicom_is_dicom_whatever_its_preamble_looks_like(tmp_path, head, syntax):
    content = compressed("a", SYNTAXES[syntax])
    (tmp_path / "plain.dcm").write_bytes(content)
    path = tmp_path / "odd.dcm"
    path.write_bytes(HEADS[head].ljust(128, b"\0") + content[128:])
    wanted = radiograph.read(tmp_path / "plain.dcm")
    for found in (radiograph.read(path), sandbox.read(path)):
        assert np.array_equal(found.pixels, wanted.pixels)
        assert found.header.to_json() == wanted.header.to_json()
    assert radiograph.read_header(path).transfer_syntax == SYNTAXES[syntax]
    assert {JPEG2000Lossless, DeflatedExplicitVRLittleEndian} < set(SYNTAXES.values())


def with_orientation(pixels, kind, orientation, **options):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, exif=exif, **options)
    return file.getvalue()


@pytest.mark.parametrize(("kind", "depth"), [("PNG", 8), ("PNG", 16), ("JPEG", 8), ("TIFF", 8), ("TIFF", 16)])
@pytest.mark.parametrize("orientation", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
def test_pictures_are_turned_as_any_viewer_turns_them(tmp_path, kind, depth, orientation):
    options = {"quality": 100} if kind == "JPEG" else {}
    pixels = GREY if depth == 8 else GREY.astype(np.uint16) * 200 + 7
    path = tmp_path / f"a.{kind.lower()}"
    path.write_bytes(with_orientation(pixels, kind, orientation, **options))
    # not by its path: Pillow 13 maps that into memory, and turns what it mapped wrongly
    with path.open("rb") as file, Image.open(file) as shown:
        wanted = np.asarray(ImageOps.exif_transpose(shown))
    found = radiograph.read(path)
    assert near(found.pixels.astype(int), wanted if depth == 8 else stretched(wanted))
    assert (found.header.height, found.header.width) == wanted.shape == found.pixels.shape
    assert radiograph.read_header(path) == found.header
    said = f"turned by its EXIF orientation, {orientation}"
    if orientation in (0, 9):
        said = "EXIF orientation ignored: it is none of 1 to 8"
    assert found.notes == (() if orientation == 1 else (said,))
    with path.open("rb") as file, Image.open(file) as opened:
        again = radiograph.of_array(opened)
    assert np.array_equal(again.pixels, found.pixels)
    assert again.notes == found.notes


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0", b"garbage"])
@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_exif_that_cannot_be_read_costs_no_picture(tmp_path, exif, kind):
    Image.fromarray(GREY).save(tmp_path / f"a.{kind}", exif=exif, quality=100)
    found = radiograph.read(tmp_path / f"a.{kind}")
    assert near(found.pixels.astype(int), GREY.astype(int))
    assert radiograph.read_header(tmp_path / f"a.{kind}") == found.header


def forms(pixels):
    """One grey picture in every form that people have at hand."""
    colours = np.stack([pixels] * 3, -1)
    tensor = torch.from_numpy(pixels.copy())
    return {
        "array": pixels,
        "view": np.asfortranarray(pixels)[::-1][::-1],
        "big_endian": pixels.astype(pixels.dtype.newbyteorder(">")),
        "channel_first": pixels[None],
        "channel_last": pixels[..., None],
        "colours_first": np.moveaxis(colours, -1, 0),
        "list": pixels.astype(int).tolist() if pixels.dtype != np.uint8 else [list(row) for row in pixels],
        "tensor": tensor,
        "tensor_of_a_channel": tensor[None],
        "tensor_of_colours": tensor.expand(3, -1, -1),
        "tensor_with_gradient": tensor.double().div(255).requires_grad_() if pixels.dtype == np.uint8 else tensor,
    }


@pytest.mark.parametrize("form", forms(GREY))
def test_8_bits_stay_as_they_are_in_every_form(form):
    found = radiograph.of_array(forms(GREY)[form], "mine")
    assert near(found.pixels.astype(int), GREY.astype(int), levels=0)
    assert (found.header.height, found.header.width) == GREY.shape
    assert not found.pixels.flags.writeable
    assert found.notes == ()


@pytest.mark.parametrize("form", forms(GREY.astype(np.uint16)))
def test_16_bits_are_stretched_in_every_form(form):
    pixels = (GREY.astype(np.uint16) * 150 + 900).astype(np.uint16)
    assert near(radiograph.of_array(forms(pixels)[form]).pixels.astype(int), stretched(pixels))


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_8_bits_divided_by_255_are_8_bits_again(kind):
    part = GREY // 2 + 20  # not the whole range, so that a stretch would be seen
    found = radiograph.of_array((part / 255).astype(kind)).pixels.astype(int)
    assert near(found, part if kind != np.float16 else stretched(part), levels=0 if kind != np.float16 else 1)
    tensor = torch.from_numpy(part).float() / 255
    assert np.array_equal(radiograph.of_array(tensor).pixels, part)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_colours_are_luminance_red_first(kind):
    colours = np.zeros((3, 2, 40), kind)
    colours[0, 0], colours[1, 1], colours[2, 1, :20] = 200, 200, 100
    wanted = np.array([[0.299 * 200] * 40, [0.587 * 200 + 11.4] * 20 + [0.587 * 200] * 20])
    wanted = wanted if kind == np.uint8 else stretched(wanted)
    for image in (colours, torch.from_numpy(colours)):
        assert near(radiograph.of_array(image).pixels.astype(int), wanted)


def test_other_floats_are_stretched():
    values = np.linspace(0.2, 0.7, 1000).reshape(50, 20)
    assert near(radiograph.of_array(values).pixels.astype(int), stretched(values))
    found = radiograph.of_array(torch.from_numpy(values).to(torch.bfloat16)).pixels.astype(int)
    assert near(found, stretched(values), levels=4)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "I;16", "I", "F"])
def test_pillow_s_images_are_read_as_their_files_are(tmp_path, mode):
    image = Image.fromarray(GREY).convert(mode) if mode != "I;16" else Image.fromarray(GREY.astype(np.uint16))
    kind = "tiff" if mode in ("CMYK", "F", "I") else "png"
    image.save(tmp_path / f"a.{kind}")
    wanted = radiograph.read(tmp_path / f"a.{kind}")
    found = radiograph.of_array(image)
    assert np.array_equal(found.pixels, wanted.pixels)
    assert found.header.bits_stored == wanted.header.bits_stored


BAD = {
    "none": None,
    "bytes": b"\x89PNG",
    "number": 7,
    "words": np.array([["a", "b"]]),
    "object": object(),
    "objects": np.array([[1, None]], object),
    "ragged": [[1, 2], [3]],
    "generator": (row for row in GREY),
    "complex": GREY.astype(complex),
    "empty": np.zeros((0, 5)),
    "empty_tensor": torch.zeros(0, 3),
    "nan": np.full((4, 4), np.nan, np.float32),
    "one_nan": np.array([[0.1, np.nan]]),
    "infinite": np.array([[0.1, np.inf]]),
    "nan_tensor": torch.tensor([[0.1, float("nan")]]),
    "row": np.arange(9, dtype=np.uint8),
    "batch": np.zeros((2, 1, 5, 5), np.uint8),
    "tensor_batch": torch.zeros(1, 3, 5, 5),
    "colours_last": np.zeros((5, 5, 3), np.uint8),  # of OpenCV or of Pillow? their orders differ
    "two_channels": np.zeros((2, 5, 5), np.uint8),
    "huge": np.broadcast_to(np.uint8(1), (2**14, 2**14)),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_image_is_one_line_that_names_it(name):
    with pytest.raises(RadiographError) as raised:
        radiograph.of_array(BAD[name], "image7")
    assert str(raised.value).startswith("image7: ")
    assert "\n" not in str(raised.value)


def test_a_closed_or_damaged_image_of_pillow_is_one_line(tmp_path):
    content = picture(GREY, "PNG")
    image = Image.open(io.BytesIO(content[: len(content) // 2]))
    with pytest.raises(RadiographError, match=r"^mine: "):
        radiograph.of_array(image, "mine")
    image.close()
    with pytest.raises(RadiographError, match=r"^mine: "):
        radiograph.of_array(image, "mine")
