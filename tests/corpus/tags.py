"""DICOM files cut short, and with tags that are missing, contradict each other, or make no sense."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pydicom
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    MPEG2MPML,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from tests.corpus.entry import Entry, dicom
from tests.corpus.valid import HEIGHT, META_START, SYNTAXES, compressed, dataset, encapsulated, saved, smooth


def tag_entries() -> Iterator[Entry]:
    """All of them."""
    yield from _cut()
    yield from _contradictory()
    yield from _wrong_syntax()
    yield from _depths()
    yield from _display()
    yield from _texts()


def _cut() -> Iterator[Entry]:
    for name, content in {
        "one_byte.dcm": b"D",
        "zeros.dcm": bytes(4096),
        "text.dcm": b"Not the pixels that you look for.\n" * 99,
        "wrong_magic.dcm": b"\0" * 128 + b"DICN" + saved(dataset("wrong_magic.dcm"))[132:],
        "noise.dcm": np.random.default_rng(0).bytes(5000),
    }.items():
        yield Entry(name, content)
    yield Entry("empty.dcm", b"")
    yield Entry("only_magic.dcm", b"\0" * 128 + b"DICM")
    yield Entry("no_preamble.dcm", saved(dataset("no_preamble.dcm"))[132:])
    for name in ("explicit", "implicit", "jpeg_lossless", "jpeg_2000", "rle", "jpeg_ls", "jpeg_baseline", "deflated"):
        for percent in (5, 12, 20, 40, 60, 95):
            whole = compressed(f"cut_{name}_{percent:02}.dcm", SYNTAXES[name])
            yield Entry(f"cut_{name}_{percent:02}.dcm", whole[: len(whole) * percent // 100])


def _contradictory() -> Iterator[Entry]:
    for tag in (
        "Rows", "Columns", "PhotometricInterpretation", "BitsAllocated", "SamplesPerPixel", "PixelRepresentation",
        "BitsStored", "HighBit", "PixelData",
    ):  # fmt: skip
        yield dicom(f"without_{tag}.dcm", **{tag: None})
    for tag, value in (
            ("Rows", 0), ("Columns", 0), ("Rows", HEIGHT * 2), ("Rows", HEIGHT // 2), ("PixelData", b""),
            ("PixelData", smooth().tobytes()[:-100]), ("PixelData", smooth().tobytes() + bytes(100)),
            ("PixelData", smooth().tobytes() * 2), ("SamplesPerPixel", 2), ("SamplesPerPixel", 3),
            ("SamplesPerPixel", 0), ("PhotometricInterpretation", "RGB"), ("PhotometricInterpretation", "ULTRAVIOLET"),
            ("PhotometricInterpretation", "YBR_PARTIAL_420"), ("PixelRepresentation", 7), ("NumberOfFrames", 0),
            ("NumberOfFrames", -3), ("NumberOfFrames", 10**9), ("BitsStored", 0), ("BitsStored", 13),
            ("BitsStored", 65535), ("HighBit", 20), ("HighBit", 0), ("BitsAllocated", 8), ("BitsAllocated", 12),
            ("BitsAllocated", 0), ("BitsAllocated", 64), ("PixelPaddingValue", 70),
    ):  # fmt: skip
        shown = f"{len(value)}_bytes" if isinstance(value, bytes) else str(value)
        yield dicom(f"{tag}_{shown}.dcm", **{tag: value})
    yield dicom("huge.dcm", Rows=65535, Columns=65535)
    yield dicom("rgb_without_planar.dcm", SamplesPerPixel=3, PhotometricInterpretation="RGB")
    yield dicom("rgb_planar_9.dcm", SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=9)
    yield dicom("rows_of_two_values.dcm", Rows=b"\x40\0\x20\0")


def _wrong_syntax() -> Iterator[Entry]:
    for content, name, syntax in (
        ("explicit", "jpeg", JPEGLosslessSV1),
        ("explicit", "deflated", DeflatedExplicitVRLittleEndian),
        ("explicit", "implicit", pydicom.uid.ImplicitVRLittleEndian),
        ("jpeg_lossless", "explicit", ExplicitVRLittleEndian),
        ("jpeg_2000", "jpeg_ls", JPEGLSLossless),
        ("jpeg_ls", "rle", RLELossless),
        ("rle", "jpeg_2000", pydicom.uid.JPEG2000Lossless),
        ("jpeg_baseline", "jpeg_lossless", JPEGLosslessSV1),
        ("jpeg_2000", "unknown", UID("1.2.840.10008.1.2.4.999")),
        ("jpeg_2000", "not_a_uid", UID("../../etc")),
    ):
        whole = compressed(f"{content}_called_{name}.dcm", SYNTAXES[content])
        yield Entry(f"{content}_called_{name}.dcm", _called(whole, syntax))
    mpeg = encapsulated(dataset("mpeg.dcm"), MPEG2MPML, b"\0\0\1\xb3")
    yield Entry("mpeg.dcm", mpeg)


def _called(content: bytes, syntax: UID) -> bytes:
    """The file with another transfer syntax in its meta header; nothing else is changed."""
    meta = pydicom.dcmread(io.BytesIO(content)).file_meta
    body = content[META_START + meta.FileMetaInformationGroupLength :]
    file = io.BytesIO()
    with pydicom.config.disable_value_validation():
        meta.TransferSyntaxUID = syntax
        pydicom.filewriter.write_file_meta_info(file, meta, enforce_standard=True)
    return content[:132] + file.getvalue() + body


def _depths() -> Iterator[Entry]:
    for name, dtype, bits, allocated in (("8", np.uint8, 8, 8), ("32", np.uint32, 32, 32), ("s16", np.int16, 16, 16)):
        pixels = smooth(min(2**bits, 2**31) - 1 if dtype != np.int16 else 2000, dtype)
        yield Entry(f"bits_{name}.dcm", saved(dataset(f"{name}.dcm", pixels, bits, BitsAllocated=allocated)))
    ones = np.packbits(smooth(255, np.uint8) > 100, bitorder="little").tobytes()
    one_bit = {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0, "PixelData": ones}
    yield Entry("bits_1.dcm", saved(dataset("bits_1.dcm", **one_bit)))
    for name, dtype, tag in (("float", np.float32, "FloatPixelData"), ("double", np.float64, "DoubleFloatPixelData")):
        made = dataset(name, smooth(), BitsAllocated=np.dtype(dtype).itemsize * 8, PixelData=None)
        values = smooth(1, dtype)
        setattr(made, tag, values.tobytes())
        yield Entry(f"{name}.dcm", saved(made))
        values[3:9] = [[np.nan] * len(values[0]), *[[np.inf] * len(values[0])] * 5]
        setattr(made, tag, values.tobytes())
        yield Entry(f"{name}_nan.dcm", saved(made))
        setattr(made, tag, np.full_like(values, np.nan).tobytes())
        yield Entry(f"{name}_only_nan.dcm", saved(made))
    grey = smooth(255, np.uint8)
    colours = np.stack([grey, grey // 2, 255 - grey], -1)
    for photometric in ("RGB", "YBR_FULL"):
        for planar in (0, 1):
            pixels = colours if not planar else np.moveaxis(colours, -1, 0)
            yield dicom(
                f"{photometric}_{planar}.dcm", BitsAllocated=8, BitsStored=8, HighBit=7, SamplesPerPixel=3,
                PhotometricInterpretation=photometric, PlanarConfiguration=planar, PixelData=pixels.tobytes(),
            )  # fmt: skip
    half = {"PhotometricInterpretation": "YBR_FULL_422", "PlanarConfiguration": 0, "SamplesPerPixel": 3}
    yield dicom("YBR_422.dcm", BitsAllocated=8, BitsStored=8, HighBit=7, PixelData=colours[..., :2].tobytes(), **half)
    frames = np.stack([smooth(), smooth()[::-1]])
    yield dicom("two_frames.dcm", NumberOfFrames=2, PixelData=frames.tobytes())
    yield dicom("second_frame_cut.dcm", NumberOfFrames=2, PixelData=frames.tobytes()[:-99])
    yield dicom("constant.dcm", PixelData=bytes(smooth().nbytes))


def _display() -> Iterator[Entry]:
    for name, centre, width in (
        ("nan", b"NaN", b"100"), ("zero_width", b"100", b"0"), ("minus_width", b"100", b"-5"),
        ("infinite", b"1e999", b"1e999"), ("centre_only", b"100", None), ("words", b"wide", b"open"),
        ("tiny", b"100", b"1e-30"), ("many", rb"1\2\3", b"10"), ("empty", b"", b""), ("large", b"1e300", b"1e300"),
    ):  # fmt: skip
        window = {"WindowCenter": centre} | ({} if width is None else {"WindowWidth": width})
        yield dicom(f"window_{name}.dcm", **window)
    for name, slope, intercept in (
        ("nan", b"NaN", b"0"), ("zero", b"0", b"0"), ("infinite", b"1e999", b"0"), ("large", b"1e300", b"-1e300"),
        ("words", b"a", b"b"), ("minus", b"-1", b"0"), ("several", rb"1\2", b"0"), ("empty", b"", b""),
        ("alone", b"2", None),
    ):  # fmt: skip
        rescale = {"RescaleSlope": slope} | ({} if intercept is None else {"RescaleIntercept": intercept})
        yield dicom(f"slope_{name}.dcm", **rescale)
    for kind in ("VOILUTSequence", "ModalityLUTSequence"):
        for name, descriptor, data in (
            ("short", [4096, 0, 12], [1, 2, 3]), ("empty", [4096, 0, 12], []), ("long", [4, 0, 12], list(range(4096))),
            ("bits", [16, 0, 99], list(range(16))), ("first", [16, 60000, 12], list(range(16))),
            ("descriptor", [16], list(range(16))),
        ):  # fmt: skip
            table = Dataset()
            table.add(DataElement(0x00283002, "US", descriptor))
            table.add(DataElement(0x00283006, "US", data))
            table.ModalityLUTType = "US"
            yield dicom(f"{kind}_{name}.dcm", **{kind: Sequence([table])})
        yield dicom(f"{kind}_none.dcm", **{kind: Sequence([])})
        yield dicom(f"{kind}_blank.dcm", **{kind: Sequence([Dataset()])})
    for name, descriptor, data in (
        ("short", [256, 0, 8], 5),
        ("missing", [256, 0, 8], None),
        ("bits", [256, 0, 7], 256),
    ):
        tables = {}
        for colour in ("Red", "Green", "Blue"):
            tables[f"{colour}PaletteColorLookupTableDescriptor"] = descriptor
            if data:
                tables[f"{colour}PaletteColorLookupTableData"] = bytes(data)
        yield dicom(f"palette_{name}.dcm", PhotometricInterpretation="PALETTE COLOR", **tables)


def _texts() -> Iterator[Entry]:
    """Text that is no text, and headers that are all header."""
    for name, tag in (("patient", "PatientID"), ("view", "ViewPosition"), ("sex", "PatientSex"), ("age", "PatientAge")):
        yield dicom(f"text_{name}.dcm", **{tag: b"\xff\xfe\x80\xc3"})
    yield dicom("charset_unknown.dcm", SpecificCharacterSet=b"ISO_IR 9999", PatientID=b"M\xfcller")
    yield dicom("lines_in_ids.dcm", PatientID=b"p1\nrm -rf\r\x1b[2J", SOPInstanceUID=b"1.2.3\n1.2.4")
    yield dicom("formula.dcm", PatientID=b"=HYPERLINK(1)", SOPInstanceUID=b"=1+1", StudyInstanceUID=b"@SUM(1)")
    yield dicom("path_in_ids.dcm", SOPInstanceUID=b"../../../tmp/x", StudyInstanceUID=b"/etc/passwd")
    yield dicom("number_as_text.dcm", Rows=b"6", Columns=b"56")
    yield dicom("frames_as_words.dcm", NumberOfFrames=b"many")
    yield dicom("bits_empty.dcm", BitsStored=b"")
    yield dicom("endless_id.dcm", PatientID=b"1" * 60000)
    yield Entry("deep_sequence.dcm", _deep(20_000, 0xFFFFFFFF))
    yield Entry("private_flood.dcm", _flooded(30_000))


def _before_pixels(inserted: bytes) -> bytes:
    """A valid explicit little-endian file with elements put before its first group of image tags (0018 and up)."""
    content = saved(dataset(str(len(inserted))))
    place = content.index(b"\x18\x00\x01\x51") if b"\x18\x00\x01\x51" in content else content.index(b"\x20\x00\x0d\x00")
    return content[:place] + inserted + content[place:]


def _deep(levels: int, length: int) -> bytes:
    """Sequences inside sequences, each of undefined length."""
    undefined = length.to_bytes(4, "little")
    opening = b"\x09\x00\x10\x10SQ\0\0" + undefined + b"\xfe\xff\x00\xe0" + undefined
    closing = b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    return _before_pixels(opening * levels + closing * levels)


def _flooded(count: int) -> bytes:
    """Very many small private elements."""
    return _before_pixels(
        b"".join(
            (0x0019 + 2 * (i // 0xF000)).to_bytes(2, "little")
            + (0x1000 + i % 0xF000).to_bytes(2, "little")
            + b"LO\x04\0flud"
            for i in range(count)
        )
    )
