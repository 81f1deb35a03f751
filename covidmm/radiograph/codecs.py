"""Decoders of compressed DICOM frames, and what a frame declares of itself.

A frame has a header of its own, which need not agree with the DICOM attributes. A decoder allocates what the frame
declares, so the two sizes are compared before it is called.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

_NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian)
_JPEG = frozenset((*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes))
#: JPEG whose colours are luminance and chrominance unless it says otherwise.
JPEG_DCT = frozenset((JPEGBaseline8Bit, JPEGExtended12Bit))
_JPEG_2000 = frozenset((JPEG2000Lossless, JPEG2000, HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K))
#: Every transfer syntax that is read -> the decoder, by pydicom's name; none where pixels are stored as they are. The
#: DICOM node offers these, too. One each, but for 12-bit JPEG (see :func:`decoder`): pydicom would try several, so that
#: the weakest of them sees every bad file. GDCM ends its process on a JPEG-LS stream that declares 65,000 x 65,000
#: pixels.
DECODERS: dict[str, str] = {
    **dict.fromkeys(_NATIVE, ""),
    RLELossless: "pydicom",
    **dict.fromkeys(JPEGLSTransferSyntaxes, "pyjpegls"),
    **dict.fromkeys(_JPEG_2000, "pylibjpeg"),
    **dict.fromkeys(JPEG_DCT, "pillow"),
    **dict.fromkeys((JPEGLossless, JPEGLosslessSV1), "gdcm"),
}

_JP2_SIGNATURE = b"\x00\x00\x00\x0cjP  "
#: Start of frame: ISO/IEC 10918-1 table B.1 (without DHT, JPG and DAC, which lie between), and JPEG-LS.
_START_OF_FRAME = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
_START_OF_SCAN = 0xDA


def needs_codec(syntax: str | None) -> bool:
    """Whether a library other than pydicom, and not in Python, decodes a transfer syntax."""
    return DECODERS.get(syntax or "", "") not in ("", "pydicom")


class Codestream(NamedTuple):
    """What a compressed frame declares: rows, columns, components, bits, and the sign where there is one."""

    rows: int
    columns: int
    components: int
    precision: int
    signed: bool | None = None


def decoder(syntax: UID, stream: Codestream | None) -> tuple[UID, str]:
    """The transfer syntax and the decoder, by pydicom's names, for a frame of a transfer syntax in :data:`DECODERS`."""
    if syntax in JPEG_DCT and stream is not None and stream.precision > 8:
        # pydicom refuses 12 bits by the name of the syntax; GDCM goes by the stream
        return JPEGLosslessSV1, "gdcm"
    return syntax, DECODERS[syntax]


def read_codestream(frame: bytes, syntax: str, size: tuple[int, int]) -> Codestream | None:
    """What a compressed frame declares; None for transfer syntaxes whose frames declare nothing.

    Args:
        frame: the first frame's stream.
        syntax: its transfer syntax.
        size: rows and columns by the DICOM attributes.

    Raises:
        ValueError: another size, neither grey nor of three colours, or no stream of that kind.
    """
    if syntax in _JPEG:
        found = _jpeg_stream(frame)
    elif syntax in _JPEG_2000:
        found = _jpeg_2000_stream(frame)
    else:
        return None
    if found is None:
        raise ValueError("its pixel data are no JPEG stream, or end before the picture begins")
    if decoder(UID(syntax), found)[1] == "gdcm" and not _reaches_scan(frame):
        raise ValueError("damaged pixel data (bytes between the segments of its JPEG stream)")
    if found[:2] != size:
        shown, wanted = (" x ".join(map(str, one)) for one in (found[:2], size))
        raise ValueError(f"contradictory size: its JPEG stream holds {shown} pixels, its header says {wanted}")
    if found.components not in (1, 3):
        raise ValueError(f"contradictory size: its JPEG stream holds {found.components} samples per pixel, not 1 or 3")
    return found


def decoder_cause(error: Exception) -> str:
    """Why a decoder gave up, out of pydicom's message, without addresses in memory, which differ from run to run."""
    cause = re.sub(r"\s*<[^>]*>", "", str(error).splitlines()[-1]).partition(": ")[2].strip()
    # GDCM has no message of its own: pydicom stumbles over what it did not return
    return "damaged pixel data" if not cause or "NoneType" in cause else f"damaged pixel data ({cause[:200]})"


def _jpeg_stream(frame: bytes) -> Codestream | None:
    """The first start-of-frame segment (ISO/IEC 10918-1, B.2.2)."""
    for marker, place in _segments(frame):
        if marker in _START_OF_FRAME and place + 10 <= len(frame):
            precision, rows, columns, components = struct.unpack_from(">BHHB", frame, place + 4)
            return Codestream(rows, columns, components, precision)
    return None


def _reaches_scan(frame: bytes) -> bool:
    """Whether segment follows segment until the first scan; GDCM ends its process on some streams that do not."""
    return any(marker == _START_OF_SCAN for marker, _ in _segments(frame))


def _segments(frame: bytes) -> Iterator[tuple[int, int]]:
    """Marker and place of every segment of a JPEG stream up to its first scan, or to bytes that are no segment."""
    place = 2 if frame.startswith(b"\xff\xd8") else len(frame)
    while place + 4 <= len(frame) and frame[place] == 0xFF:
        marker = frame[place + 1]
        if marker == 0xFF:  # fill byte
            place += 1
            continue
        yield marker, place
        if marker == _START_OF_SCAN:
            return
        place += 2 + struct.unpack_from(">H", frame, place + 2)[0]


def _jpeg_2000_stream(frame: bytes) -> Codestream | None:
    """The SIZ segment (ISO/IEC 15444-1, A.5.1)."""
    place = 0
    if frame.startswith(_JP2_SIGNATURE):
        while frame[place + 4 : place + 8] != b"jp2c":
            length = int.from_bytes(frame[place : place + 4], "big")
            if length < 8 or place + length >= len(frame):
                return None
            place += length
        place += 8
    if frame[place : place + 4] != b"\xff\x4f\xff\x51" or len(frame) < place + 43:
        return None
    right, bottom, left, top = struct.unpack_from(">4I", frame, place + 8)
    components, depth = struct.unpack_from(">HB", frame, place + 40)
    return Codestream(bottom - top, right - left, components, (depth & 0x7F) + 1, bool(depth & 0x80))
