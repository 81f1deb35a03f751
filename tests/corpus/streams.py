"""DICOM files whose compressed streams are broken, lie about their size, or unpack to far more than they are."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
import pydicom
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from tests.corpus.entry import Entry
from tests.corpus.valid import META_START, dataset, encapsulated, saved, smooth, stream, zeros

_CODECS = {
    "jpeg": JPEGBaseline8Bit,
    "lossless": JPEGLosslessSV1,
    "jls": JPEGLSLossless,
    "j2k": JPEG2000Lossless,
    "rle": RLELossless,
}


def stream_entries() -> Iterator[Entry]:
    """All of them."""
    for name, syntax in _CODECS.items():
        whole = stream(syntax)
        rng = np.random.default_rng(1)
        damaged = bytearray(whole)
        for place in rng.integers(len(whole) // 3, len(whole), 40):
            damaged[place] = rng.integers(256)
        for kind, data in {
            "half": whole[: len(whole) // 2],
            "zeroed": whole[:40] + bytes(len(whole) - 40),
            "damaged": bytes(damaged),
            "two_bytes": b"\0\0",
            "noise": rng.bytes(len(whole)),
            "head": whole[:12],
            "twice": whole + whole,
        }.items():
            yield Entry(f"{name}_{kind}.dcm", _with_stream(f"{name}_{kind}.dcm", syntax, data))
    for name, syntax in _CODECS.items():
        if name != "rle":
            data = _declaring(stream(syntax), 65000, 65000)
            yield Entry(f"{name}_declares_huge.dcm", _with_stream(f"{name}_declares_huge.dcm", syntax, data))
            data = _declaring(stream(syntax), 32, 32)
            yield Entry(f"{name}_declares_small.dcm", _with_stream(f"{name}_declares_small.dcm", syntax, data))
    yield from _encapsulation()
    yield from _bombs()


def _with_stream(name: str, syntax: UID, data: bytes) -> bytes:
    if syntax == JPEGBaseline8Bit:
        return encapsulated(dataset(name, smooth(255, np.uint8), 8), syntax, data)
    return encapsulated(dataset(name), syntax, data)


def _declaring(data: bytes, height: int, width: int) -> bytes:
    """The stream with another size in its own header (SOF of the JPEGs, SIZ of JPEG 2000)."""
    if data[:4] == b"\xff\x4f\xff\x51":  # ISO/IEC 15444-1 A.5.1: Xsiz and Ysiz, and one tile of that size
        sizes = struct.pack(">II", width, height)
        return data[:8] + sizes + data[16:24] + sizes + data[32:]
    place = min(data.index(marker) for marker in (b"\xff\xc0", b"\xff\xc3", b"\xff\xf7") if marker in data)
    return data[: place + 5] + struct.pack(">HH", height, width) + data[place + 9 :]


def _encapsulation() -> Iterator[Entry]:
    """The box around the stream is wrong."""
    good = stream(JPEG2000Lossless)
    for name, data in {
        "offset_table_lies": b"\xfe\xff\x00\xe0\x08\0\0\0" + struct.pack("<II", 0, 0xFFFFFFF0) + _item(good) + _END,
        "no_items": _END,
        "no_end": b"\xfe\xff\x00\xe0\0\0\0\0" + _item(good),
        "item_too_long": b"\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\x00\xe0" + struct.pack("<I", 0x7FFFFFFF) + good,
        "ten_thousand_fragments": b"\xfe\xff\x00\xe0\0\0\0\0" + _item(b"") * 10_000 + _item(good) + _END,
    }.items():
        made = dataset(name)
        made.compress(JPEG2000Lossless, generate_instance_uid=False)
        content = saved(made)
        place = content.index(b"\xe0\x7f\x10\x00") + 12
        yield Entry(f"encapsulated_{name}.dcm", content[:place] + data)


_END = b"\xfe\xff\xdd\xe0\0\0\0\0"


def _item(data: bytes) -> bytes:
    data += b"\0" * (len(data) % 2)
    return b"\xfe\xff\x00\xe0" + struct.pack("<I", len(data)) + data


def _bombs() -> Iterator[Entry]:
    """Little on disk, a lot in memory."""
    made = dataset("deflate_bomb.dcm")
    made.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    content = saved(made)
    meta = META_START + pydicom.dcmread(io.BytesIO(content)).file_meta.FileMetaInformationGroupLength
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    body = zlib.decompress(content[meta:], -zlib.MAX_WBITS)
    packed = packer.compress(body + b"\x09\x00\x10\x10OB\0\0" + struct.pack("<I", 3 << 30))
    packed += packer.flush(zlib.Z_FULL_FLUSH) + zeros(3 << 10)
    yield Entry("deflate_bomb.dcm", content[:meta] + packed)
    rle = struct.pack("<16I", 2, 64, 96, *[0] * 13) + b"\x81\0" * 16 + b"\x81\0" * 4000
    huge = dataset("rle_huge.dcm", Rows=11000, Columns=11000)
    yield Entry("rle_bomb.dcm", encapsulated(huge, RLELossless, rle))
    for name in ("lossless", "j2k"):
        huge = dataset(f"{name}_declared.dcm", Rows=11000, Columns=11000)
        yield Entry(f"{name}_bomb.dcm", encapsulated(huge, _CODECS[name], stream(_CODECS[name])))
