"""What compressed frames declare, on streams that other programs wrote."""

import io

import cv2
import numpy as np
import pytest
from openjpeg.utils import encode_array
from PIL import Image
from pydicom.pixels import get_decoder
from pydicom.uid import (
    JPEG2000MC,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from covidmm.radiograph.codecs import DECODERS, Codestream, decoder_cause, needs_codec, read_codestream
from tests.corpus.valid import HEIGHT, WIDTH, stream


def by_pillow(form, shape, **options):
    file = io.BytesIO()
    Image.fromarray(np.zeros(shape, np.uint8)).save(file, form, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "syntax", "wanted"),
    [
        (by_pillow("JPEG", (40, 30)), JPEGBaseline8Bit, Codestream(40, 30, 1, 8)),
        (by_pillow("JPEG", (40, 30, 3)), JPEGBaseline8Bit, Codestream(40, 30, 3, 8)),
        (by_pillow("JPEG", (40, 30), progressive=True), JPEGBaseline8Bit, Codestream(40, 30, 1, 8)),
        (cv2.imencode(".jpg", np.zeros((7, 900), np.uint8))[1].tobytes(), JPEGBaseline8Bit, Codestream(7, 900, 1, 8)),
        (by_pillow("JPEG2000", (40, 30), no_jp2=True), JPEG2000Lossless, Codestream(40, 30, 1, 8, False)),
        # with the boxes of a .jp2 file
        (by_pillow("JPEG2000", (40, 30, 3)), JPEG2000Lossless, Codestream(40, 30, 3, 8, False)),
        (stream(JPEGLSLossless), JPEGLSLossless, Codestream(HEIGHT, WIDTH, 1, 12)),
    ],
)
def test_a_frame_tells_of_itself_and_one_of_another_size_is_refused(content, syntax, wanted):
    rows, columns = wanted[:2]
    assert read_codestream(content, syntax, (rows, columns)) == wanted
    for other in ((rows + 1, columns), (rows, columns + 1)):
        with pytest.raises(ValueError, match="contradictory size"):
            read_codestream(content, syntax, other)


@pytest.mark.parametrize(("precision", "signed"), [(8, False), (8, True), (12, True), (16, False), (16, True)])
def test_the_sign_and_the_bits_of_jpeg_2000_are_those_that_were_encoded(precision, signed):
    values = np.zeros((64, 72), f"{'i' if signed else 'u'}{1 if precision == 8 else 2}")
    content = encode_array(values, bits_stored=precision, photometric_interpretation=2, use_mct=False)
    assert read_codestream(content, JPEG2000Lossless, (64, 72)) == Codestream(64, 72, 1, precision, signed)


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEG2000Lossless, JPEGLSLossless])
def test_what_is_no_stream_is_told_at_every_length(syntax):
    whole = stream(syntax)
    for length in range(12):
        with pytest.raises(ValueError, match="no JPEG stream"):
            read_codestream(whole[:length], syntax, (HEIGHT, WIDTH))
    with pytest.raises(ValueError, match="no JPEG stream"):
        read_codestream(b"\xff\xd8" + b"\xff" * 50, syntax, (HEIGHT, WIDTH))


def test_what_gdcm_gets_is_segment_upon_segment_to_the_first_scan():
    whole = stream(JPEGLosslessSV1)
    # GDCM writes 16 bits whatever is stored
    assert read_codestream(whole, JPEGLosslessSV1, (HEIGHT, WIDTH)) == Codestream(HEIGHT, WIDTH, 1, 16)
    scan = whole.index(b"\xff\xda")
    read_codestream(whole[:scan] + b"\xff" * 9 + whole[scan:], JPEGLosslessSV1, (HEIGHT, WIDTH))  # fill bytes
    for damaged in (whole[:scan], whole[:scan] + bytes(9) + whole[scan:]):
        with pytest.raises(ValueError, match="between the segments"):
            read_codestream(damaged, JPEGLosslessSV1, (HEIGHT, WIDTH))


def test_frames_without_a_header_declare_nothing():
    for syntax in (RLELossless, ExplicitVRLittleEndian):
        assert read_codestream(b"anything", syntax, (1, 2)) is None
        assert not needs_codec(syntax)


def test_what_is_read_is_what_pydicom_has_a_decoder_for():
    for syntax, decoder in DECODERS.items():
        available = get_decoder(syntax).available_plugins
        assert decoder in available if decoder else not available
        assert needs_codec(syntax) == (decoder not in ("", "pydicom"))
    for syntax in (None, "", "1.2.3", JPEG2000MC):
        assert syntax not in DECODERS
        assert not needs_codec(syntax)


def test_a_decoder_s_cause_has_no_addresses_and_no_second_line():
    error = RuntimeError("Unable to decode as exceptions were raised:\npillow: bad <_io.BytesIO object at 0x7f01>")
    assert decoder_cause(error) == "damaged pixel data (bad)"
    assert decoder_cause(RuntimeError("x\ngdcm: 'NoneType' has no len()")) == "damaged pixel data"
