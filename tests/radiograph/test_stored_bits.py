"""Stored bits and padding, through the whole reader, for every layout of cells that a header can declare."""

import io

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from covidmm import radiograph
from covidmm.radiograph.stored_bits import Layout
from tests.corpus.valid import dataset
from tests.radiograph.dicom_files import near, pixels_of, ramp, stretched, written

LAYOUTS = [
    (allocated, bits, high)
    for allocated in (8, 16, 32)
    for bits in range(8 if allocated > 8 else 5, 17)
    for high in range(bits - 1, min(allocated, 32))
    if bits <= allocated and (high in (bits - 1, allocated - 1) or 11 <= high <= 15)
]


def cells_of(values, allocated, bits, high, rng):
    """Stored values in their cells, with other data in every bit that is not stored."""
    below = high + 1 - bits
    whole = values.astype(np.int64) & ((1 << bits) - 1)
    around = rng.integers(0, 2**62, values.shape) & ((1 << allocated) - 1) & ~(((1 << bits) - 1) << below)
    return ((whole << below) | around).astype(np.uint64)


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("signed", [False, True])
def test_stored_bits_are_taken_out_once(tmp_path, signed, big_endian, subtests):
    rng = np.random.default_rng(0)
    for allocated, bits, high in LAYOUTS:
        with subtests.test(allocated=allocated, bits=bits, high=high):
            low, top = Layout(bits, 0, signed).limits
            values = ramp(low, top, np.int64)
            cells = cells_of(values, allocated, bits, high, rng)
            cells = cells.astype(f"u{allocated // 8}").view(f"{'i' if signed else 'u'}{allocated // 8}")
            path = written(tmp_path / f"{allocated}_{bits}_{high}.dcm", cells, bits, big_endian, HighBit=high)
            found, notes = pixels_of(path)
            assert near(found, stretched(values), levels=0 if bits <= 8 else 1)
            assert notes == ()


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("bits", "high"), [(12, 11), (12, 15), (10, 13), (16, 15)])
def test_compressed_cells_are_taken_out_once_too(tmp_path, syntax, signed, bits, high):
    values = ramp(*Layout(bits, 0, signed).limits, np.int64)
    cells = (values << (high + 1 - bits)).astype(np.int16 if signed else np.uint16)
    # pydicom compresses stored bits only, so that the frame is made of whole cells or of the cells' lower bits
    made = dataset("whole", cells, 16 if high >= bits else bits)
    made.compress(syntax, generate_instance_uid=False)
    made.BitsStored, made.HighBit = bits, high
    made.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    found, notes = pixels_of(tmp_path / "a.dcm")
    assert near(found, stretched(values))
    assert notes == ()


def test_a_high_bit_below_the_stored_ones_is_noted(tmp_path):
    values = ramp(0, 4095, np.uint16)
    found, notes = pixels_of(written(tmp_path / "a.dcm", values, 12, HighBit=3))
    assert near(found, stretched(values))
    assert notes == ("high bit 3 ignored: 12 bits are stored",)


def test_a_window_is_one_of_stored_values_wherever_they_sit(tmp_path):
    values = ramp(0, 4095, np.uint16)
    window = {"WindowCenter": 1000, "WindowWidth": 400}
    wanted, _ = pixels_of(written(tmp_path / "a.dcm", values, 12, **window))
    found, _ = pixels_of(written(tmp_path / "b.dcm", values << 4, 12, HighBit=15, **window))
    assert np.array_equal(found, wanted)


KINDS = [("i1", 8), ("u1", 8), ("i2", 12), ("i2", 16), ("u2", 12), ("u2", 16), ("i4", 20), ("i4", 32), ("u4", 32)]


def given_in(value, kind, as_signed):
    """A padding value as a writer gives it that takes it for signed or not; in 16 bits, as the standard has it."""
    bits = min(8 * np.dtype(kind).itemsize, 16)
    value &= (1 << bits) - 1
    return value - (1 << bits) if as_signed and value >> (bits - 1) else value


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from([kind for kind in KINDS if kind[0][1] != "4"]),
    place=st.sampled_from(["least", "greatest", "least + 1", "middle"]),
    as_signed=st.booleans(),
    photometric=st.sampled_from(["MONOCHROME1", "MONOCHROME2"]),
    rescale=st.sampled_from([{}, {"RescaleSlope": -0.37, "RescaleIntercept": 5.5}]),
    width=st.integers(0, 3),
)
def test_padding_is_black_and_does_not_count(kind, place, as_signed, photometric, rescale, width):
    dtype, bits = kind
    low, high = Layout(bits, 0, dtype[0] == "i").limits
    first = {"least": low, "greatest": high - width, "least + 1": low + 1, "middle": (low + high) // 2}[place]
    values = ramp(low // 2 + 20, high // 2 - 20, np.int64)
    values[(values >= first) & (values <= first + width)] += width + 1
    values[0] = first + np.arange(40) % (width + 1)
    limit = {"PixelPaddingRangeLimit": given_in(first + width, dtype, as_signed)} if width else {}
    made = dataset("padding", values.astype(dtype), bits, PhotometricInterpretation=photometric, **rescale)
    for name, value in {"PixelPaddingValue": given_in(first, dtype, as_signed), **limit}.items():
        made.add_new(name, "SS" if as_signed else "US", value)
    file = io.BytesIO()
    made.save_as(file, enforce_file_format=True)
    found = radiograph.of_dataset(pydicom.dcmread(io.BytesIO(file.getvalue()))).pixels.astype(int)
    falls = (photometric == "MONOCHROME1") != bool(rescale)
    shown = stretched(-values[1:] if falls else values[1:])
    assert not found[0].any()
    assert near(found[1:], shown)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("extreme", ["least", "greatest"])
def test_the_extremes_of_every_type_are_padding(tmp_path, kind, extreme):
    dtype, bits = kind
    least, greatest = Layout(bits, 0, dtype[0] == "i").limits
    values = ramp(10, 100, dtype)
    values[0] = least if extreme == "least" else greatest
    made = dataset("extreme", values, bits)
    # numbers of more than 16 bits are no padding that a file can hold; in memory they are
    made.add_new("PixelPaddingValue", "SL" if dtype[0] == "i" else "UL", int(values[0, 0]))
    found = radiograph.of_dataset(made).pixels.astype(int)
    assert not found[0].any()
    assert near(found[1:], stretched(values[1:]))


def test_floating_point_padding_is_padding(tmp_path):
    values = ramp(-1, 1, np.float32)
    values[0] = -1e6
    made = dataset("float", BitsAllocated=32, PixelData=None, FloatPixelPaddingValue=-1e6)
    made.Rows, made.Columns = values.shape
    made.FloatPixelData = values.tobytes()
    made.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    found, _ = pixels_of(tmp_path / "a.dcm")
    assert not found[0].any()
    assert near(found[1:], stretched(values[1:]))


@pytest.mark.parametrize("kind", ["u2", "i4"])
def test_padding_that_is_the_whole_image_is_ignored_with_a_note(tmp_path, kind):
    values = ramp(0, 4000 if kind == "u2" else 2**20, kind)
    made = dataset("all", values, 16 if kind == "u2" else 32)
    made.add_new("PixelPaddingValue", "UL", 0)
    made.add_new("PixelPaddingRangeLimit", "UL", 2**21 if kind == "i4" else 65535)
    found = radiograph.of_dataset(made)
    assert near(found.pixels.astype(int), stretched(values))
    assert found.notes == ("padding ignored: it leaves next to nothing of the image",)


@pytest.mark.parametrize("value", [b"12", b"\x01\0\x02\0"])
def test_padding_that_is_no_number_is_ignored_with_a_note(tmp_path, value):
    made = dataset("odd", ramp(0, 4095, np.uint16))
    made.add_new("PixelPaddingValue", "OB" if value == b"12" else "US", value if value == b"12" else [1, 2])
    found = radiograph.of_dataset(made)
    assert near(found.pixels.astype(int), stretched(ramp(0, 4095, np.uint16)))
    assert any(note.startswith("padding ignored: it is") for note in found.notes)
