"""The grey mapping against pydicom's own functions on every pixel, and against numbers worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from covidmm.radiograph.grey import grey_of_stored, luminance, stretch
from covidmm.radiograph.stored_bits import Layout, stored_values


def header(bits=12, signed=False, photometric="MONOCHROME2", **attributes):
    dataset = Dataset()
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    dataset.PixelRepresentation = int(signed)
    dataset.PhotometricInterpretation = photometric
    for name, value in attributes.items():
        setattr(dataset, name, value)
    return dataset


def plain(stored, dataset):
    """The straightforward sequence, in float64 on every pixel."""
    shown = apply_voi_lut(apply_modality_lut(stored, dataset), dataset).astype(np.float64)
    if dataset.get("RescaleSlope", 1) < 0 and "WindowCenter" in dataset:
        shown = -shown  # pydicom's windows fall where the slope is negative; part 3 of the standard has them rise
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        shown = shown.max() - shown
    shown -= shown.min()
    return (shown / (shown.max() or 1) * 255).astype(np.uint8)


@settings(max_examples=150, deadline=None)
@given(
    bits=st.integers(8, 16),
    signed=st.booleans(),
    photometric=st.sampled_from(["MONOCHROME1", "MONOCHROME2"]),
    rescale=st.sampled_from([None, (1, 0), (1, -1024), (0.5, 3.25), (-1, 500)]),
    window=st.sampled_from([None, (0.4, 0.5), (0.5, 1.2), (0.7, 0.01)]),
    function=st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
    seed=st.integers(0, 999),
)
def test_it_equals_the_plain_sequence_within_one_level(bits, signed, photometric, rescale, window, function, seed):
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
    rng = np.random.default_rng(seed)
    stored = rng.integers(low + rng.integers(0, 50), high - rng.integers(0, 50), (20, 30))
    stored = stored.astype(f"{'i' if signed else 'u'}{1 if bits == 8 else 2}")
    dataset = header(bits, signed, photometric)
    slope, intercept = rescale or (1, 0)
    if rescale:
        dataset.RescaleSlope, dataset.RescaleIntercept = rescale
    if window:
        dataset.WindowCenter = float((low + window[0] * (high - low)) * slope + intercept)
        dataset.WindowWidth = float(max(4, window[1] * (high - low) * abs(slope)))
        dataset.VOILUTFunction = function
    found = grey_of_stored(stored, dataset, [])
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - plain(stored, dataset)).max() <= 1


@pytest.mark.parametrize(
    ("photometric", "expected"), [("MONOCHROME2", [0, 63, 127, 255]), ("MONOCHROME1", [255, 191, 127, 0])]
)
def test_numbers_worked_out_by_hand(photometric, expected):
    stored = np.array([[100, 200, 300, 500]], np.uint16)
    assert grey_of_stored(stored, header(photometric=photometric), []).tolist() == [expected]


def test_a_window_cuts_as_part_3_of_the_standard_says():
    dataset = header(WindowCenter=300, WindowWidth=201)
    stored = np.array([[0, 199, 200, 300, 400, 4095]], np.uint16)
    found = grey_of_stored(stored, dataset, [])
    assert found.tolist() == [[0, 0, 0, 128, 255, 255]]  # ((300 - 299.5) / 200 + 0.5) * 255


def table(name, first, values, bits=16):
    dataset = Dataset()
    item = Dataset()
    item.LUTDescriptor = [len(values), first, bits]
    item.LUTData = values
    setattr(dataset, name, [item])
    return getattr(dataset, name)


def test_a_voi_table_is_looked_up():
    dataset = header(bits=8, VOILUTSequence=table("VOILUTSequence", 10, [0, 500, 100, 1000]))
    stored = np.array([[9, 10, 11, 12, 13, 14]], np.uint8)
    # a table need not rise: the greatest value on the image decides, wherever it stands
    assert grey_of_stored(stored, dataset, []).tolist() == [[0, 0, 127, 25, 255, 255]]
    assert grey_of_stored(stored[:, :4], dataset, []).tolist() == [[0, 0, 255, 51]]


def test_a_modality_table_is_looked_up():
    dataset = header(bits=8, ModalityLUTSequence=table("ModalityLUTSequence", 0, [10, 30, 20]))
    assert grey_of_stored(np.array([[0, 1, 2]], np.uint8), dataset, []).tolist() == [[0, 255, 127]]


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_does_not_count(photometric):
    dataset = header(photometric=photometric, PixelPaddingValue=4095)
    stored = np.array([[4095, 100, 200, 300]], np.uint16)
    found = grey_of_stored(stored, dataset, [])
    assert found[0, 0] == 0
    assert sorted(found[0, 1:].tolist()) == [0, 127, 255]


def test_a_padding_range_counts_as_one():
    dataset = header(PixelPaddingValue=0, PixelPaddingRangeLimit=50)
    assert grey_of_stored(np.array([[0, 50, 100, 200]], np.uint16), dataset, []).tolist() == [[0, 0, 0, 255]]


@pytest.mark.parametrize("signed", [False, True])
def test_bits_above_the_stored_ones_are_no_pixels(signed):
    clean = np.array([[0, 100, 1000, 2000]], np.uint16)
    cells = (clean | 0x8000).view(np.int16 if signed else np.uint16)
    assert stored_values(cells, Layout(12, 0, signed)).tolist() == clean.tolist()


def test_stored_bits_may_sit_at_the_top():
    cells = (np.array([[0, 1000, 4000]], np.uint16) << 4) | 7
    assert stored_values(cells, Layout(12, 4, False)).tolist() == [[0, 1000, 4000]]


@pytest.mark.parametrize(
    ("center", "width", "cause"),
    [(100, 0, "width 0"), (100, -5, "width -5"), (float("nan"), 10, "centre nan"), (100, float("inf"), "width inf")],
)
def test_an_impossible_window_is_ignored_and_noted(center, width, cause):
    dataset = header()
    dataset.add_new(0x00281050, "FD", center)
    dataset.add_new(0x00281051, "FD", width)
    notes = []
    assert grey_of_stored(np.array([[0, 1000, 2000]], np.uint16), dataset, notes).tolist() == [[0, 127, 255]]
    assert "window ignored" in notes[0]
    assert cause in notes[0]


def test_a_constant_image_is_black_and_noted():
    notes = []
    assert not grey_of_stored(np.full((3, 3), 77, np.uint16), header(), notes).any()
    assert notes == ["constant image"]


def test_contradictory_bits_are_refused():
    with pytest.raises(ValueError, match="contradictory bits: 12 stored"):
        grey_of_stored(np.zeros((2, 2), np.uint8), header(bits=12), [])


def test_wide_values_are_stretched_directly():
    stored = np.array([[0, 2**30, 2**31 - 1]], np.int32)
    assert grey_of_stored(stored, header(bits=32, signed=True), []).tolist() == [[0, 127, 255]]


def test_stretch_survives_what_is_not_finite():
    assert stretch(np.array([0.0, 1.0, np.nan, np.inf, -np.inf])).tolist() == [0, 255, 0, 255, 0]


def test_luminance_is_that_of_opencv():
    import cv2

    colours = np.random.default_rng(0).integers(0, 256, (4, 5, 3)).astype(np.uint8)
    assert np.abs(luminance(colours) - cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY)).max() <= 1
