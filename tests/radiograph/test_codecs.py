"""The size that compressed frames declare, on streams that other programs wrote."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image
from pydicom.pixels import get_decoder
from pydicom.uid import (
    JPEG2000MC,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from covidmm.radiograph.codecs import DECODERS, decoder_cause, needs_codec, require_size
from tests.corpus.valid import HEIGHT, WIDTH, stream


def by_pillow(form, shape, **options):
    file = io.BytesIO()
    Image.fromarray(np.zeros(shape, np.uint8)).save(file, form, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "syntax", "size"),
    [
        (by_pillow("JPEG", (40, 30)), JPEGBaseline8Bit, (40, 30, 1)),
        (by_pillow("JPEG", (40, 30, 3)), JPEGBaseline8Bit, (40, 30, 3)),
        (by_pillow("JPEG", (40, 30), progressive=True), JPEGBaseline8Bit, (40, 30, 1)),
        (cv2.imencode(".jpg", np.zeros((7, 900), np.uint8))[1].tobytes(), JPEGBaseline8Bit, (7, 900, 1)),
        (by_pillow("JPEG2000", (40, 30), no_jp2=True), JPEG2000Lossless, (40, 30, 1)),
        (by_pillow("JPEG2000", (40, 30, 3)), JPEG2000Lossless, (40, 30, 3)),  # with the boxes of a .jp2 file
        (stream(JPEGLSLossless), JPEGLSLossless, (HEIGHT, WIDTH, 1)),
    ],
)
def test_a_frame_of_the_declared_size_passes_and_of_another_does_not(content, syntax, size):
    require_size(content, syntax, size)
    for place in range(3):
        other = tuple(value + (index == place) for index, value in enumerate(size))
        with pytest.raises(ValueError, match="contradictory size"):
            require_size(content, syntax, other)


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEG2000Lossless, JPEGLSLossless])
def test_what_is_no_stream_is_told_at_every_length(syntax):
    whole = stream(syntax)
    for length in range(12):
        with pytest.raises(ValueError, match="no JPEG stream"):
            require_size(whole[:length], syntax, (HEIGHT, WIDTH, 1))
    with pytest.raises(ValueError, match="no JPEG stream"):
        require_size(b"\xff\xd8" + b"\xff" * 50, syntax, (HEIGHT, WIDTH, 1))


def test_syntaxes_without_a_size_in_the_stream_pass():
    for syntax in (RLELossless, ExplicitVRLittleEndian):
        require_size(b"anything", syntax, (1, 2, 3))
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
