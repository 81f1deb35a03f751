"""Display attributes through the whole reader: as pydicom has those that are meant; others cost contrast."""

import io

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import ImplicitVRLittleEndian

from covidmm import radiograph
from tests.corpus.valid import dataset, saved
from tests.radiograph.dicom_files import near, pixels_of, ramp, stretched, written


def lut(entries, first, bits=16, **changes):
    item = Dataset()
    item.add_new("LUTDescriptor", "US" if first >= 0 else "SS", [len(entries) % 2**16, first, bits])
    item.add_new("LUTData", "US", [int(one) for one in entries])
    item.ModalityLUTType = "US"
    for name, value in changes.items():
        setattr(item, name, value)
    return [item]


def noted(path, values, cause, levels=1):
    """The full range is shown, and one note says why."""
    found, notes = pixels_of(path)
    assert near(found, stretched(values), levels)
    (note,) = notes
    assert cause in note, note


KINDS = {"u1": (0, 255, 8), "u2": (32744, 65535, 16), "i2": (-1000, 3000, 16), "i4": (-(10**6), 10**6, 32)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", ["below", "above"])
@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_window_outside_the_values_is_ignored(tmp_path, kind, side, function, photometric):
    low, high, bits = KINDS[kind]
    values, span = ramp(low, high, kind), high - low
    for place in (1, 1.005, 5, 1000):
        centre = high + place * span if side == "above" else low - place * span
        width = max(2 * (place - 0.99) * span, 2) if function != "SIGMOID" else span / 50
        window = {"WindowCenter": f"{centre:.8g}", "WindowWidth": f"{width:.8g}", "VOILUTFunction": function}
        path = written(tmp_path / "a.dcm", values, bits, PhotometricInterpretation=photometric, **window)
        noted(path, -values.astype(int) if photometric == "MONOCHROME1" else values, "window ignored")


@settings(max_examples=100, deadline=None)
@given(
    kind=st.sampled_from(["u1", "u2", "i2"]),
    rescale=st.sampled_from([(1, 0), (0.37, -1024), (-2, 500)]),
    place=st.floats(0.1, 0.9),
    share=st.floats(0.1, 3),
    function=st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
    photometric=st.sampled_from(["MONOCHROME1", "MONOCHROME2"]),
)
def test_a_window_that_is_meant_is_pydicom_s(kind, rescale, place, share, function, photometric):
    low, high, bits = KINDS[kind]
    values, (slope, intercept) = ramp(low, high, kind), rescale
    made = dataset("window", values, bits, PhotometricInterpretation=photometric, VOILUTFunction=function)
    made.RescaleSlope, made.RescaleIntercept = slope, intercept
    made.WindowCenter = f"{(low + place * (high - low)) * slope + intercept:.8g}"
    made.WindowWidth = f"{share * (high - low) * abs(slope):.8g}"
    shown = apply_voi_lut(apply_modality_lut(values, made), made)
    # pydicom's windows fall where the slope is negative; those of part 3 of the standard always rise
    shown = -shown if (slope < 0) != (photometric == "MONOCHROME1") else shown
    found = radiograph.of_dataset(made)
    assert near(found.pixels.astype(int), stretched(shown))
    assert found.notes == ()


def test_a_window_rises_whatever_the_sign_of_the_slope(tmp_path):
    values = ramp(0, 4095, np.uint16)
    narrow = {"WindowCenter": -2000, "WindowWidth": 2000}
    found, _ = pixels_of(written(tmp_path / "a.dcm", values, 12, RescaleSlope=-1, RescaleIntercept=0, **narrow))
    assert near(found, stretched(np.clip(-values.astype(float), -2999.5, -1000.5)))


@pytest.mark.parametrize(
    ("attributes", "cause"),
    [
        ({"WindowCenter": 2000, "WindowWidth": 0}, "window ignored: centre 2000, width 0"),
        ({"WindowCenter": 2000, "WindowWidth": -300}, "width -300"),
        ({"WindowCenter": 2000, "WindowWidth": 0.5}, "width 0.5"),
        ({"WindowCenter": 2000, "WindowWidth": 1}, "2 of 256 grey values"),
        ({"WindowCenter": b"wide", "WindowWidth": b"open"}, "WindowCenter is"),
        ({"WindowCenter": b"nan", "WindowWidth": b"10"}, "centre nan"),
        ({"WindowCenter": 2000}, "WindowWidth is None"),
        ({"WindowWidth": 2000}, "WindowCenter is None"),
        ({"VOILUTFunction": "CUBIC"}, "VOILUTFunction is 'CUBIC'"),
        ({"VOILUTFunction": ["LINEAR", "SIGMOID"]}, "VOILUTFunction is ['LINEAR', 'SIGMOID']"),
        ({"RescaleSlope": 0, "RescaleIntercept": 0}, "rescale, window and LUTs ignored: RescaleSlope is"),
        ({"RescaleSlope": b"nan", "RescaleIntercept": 0}, "RescaleSlope is"),
        ({"RescaleSlope": 2}, "rescale ignored: there is no RescaleIntercept"),
        ({"RescaleIntercept": b"2"}, "rescale ignored: there is no RescaleSlope"),
        ({"RescaleSlope": "1e-30", "RescaleIntercept": 1000}, "1 of 256 grey values"),
        ({"PresentationLUTShape": "INVERSE", "WindowCenter": None}, "Presentation LUT Shape 'INVERSE' ignored"),
        ({"PresentationLUTShape": "LIN OD", "WindowCenter": None}, "Presentation LUT Shape 'LIN OD' ignored"),
    ],
)
def test_what_cannot_be_meant_costs_contrast_and_never_the_image(tmp_path, attributes, cause):
    attributes = dict(attributes)
    if "VOILUTFunction" in attributes or {"RescaleIntercept", "RescaleSlope"} <= set(attributes):
        attributes |= {"WindowCenter": 1000, "WindowWidth": 900}
    if attributes.get("WindowCenter", 0) is None:
        del attributes["WindowCenter"]
    values = ramp(0, 4095, np.uint16)
    (tmp_path / "a.dcm").write_bytes(saved(dataset("odd", values, 12, **attributes)))
    noted(tmp_path / "a.dcm", values, cause)


@pytest.mark.parametrize("half", ["RescaleSlope", "RescaleIntercept"])
def test_half_a_rescale_leaves_the_window(tmp_path, half):
    values = ramp(0, 4095, np.uint16)
    window = {"WindowCenter": 1000.5, "WindowWidth": 901}
    found, notes = pixels_of(written(tmp_path / "a.dcm", values, 12, **window, **{half: 3}))
    assert near(found, stretched(np.clip(values, 550, 1450)))
    assert [note.split(":")[0] for note in notes] == ["rescale ignored"]


@pytest.mark.parametrize(
    ("photometric", "shape", "contradicts"),
    [
        ("MONOCHROME1", "IDENTITY", True),
        ("MONOCHROME1", "INVERSE", False),
        ("MONOCHROME2", "IDENTITY", False),
        ("MONOCHROME2", "INVERSE", True),
        ("MONOCHROME2", "", False),
    ],
)
def test_the_photometric_interpretation_decides_what_is_bright(tmp_path, photometric, shape, contradicts):
    values = ramp(0, 4095, np.uint16)
    path = written(tmp_path / "a.dcm", values, 12, PhotometricInterpretation=photometric, PresentationLUTShape=shape)
    found, notes = pixels_of(path)
    assert near(found, stretched(-values.astype(int) if photometric == "MONOCHROME1" else values))
    assert bool(notes) == contradicts


@pytest.mark.parametrize("kind", ["VOILUTSequence", "ModalityLUTSequence"])
@pytest.mark.parametrize(
    ("table", "cause"),
    [
        (lut(range(4096), 0, LUTDescriptor=[5000, 0, 16]), "4096 entries, its descriptor says 5000"),
        (lut(range(4096), 0, LUTDescriptor=[4096, 0]), "LUTDescriptor is"),
        (lut(range(4096), 0, LUTDescriptor=[4096, 0, 99]), "99 bits per entry"),
        (lut(range(256), 20000), "1 of 256 grey values"),
        (lut([7] * 4096, 0), "1 of 256 grey values"),
        (lut([0] * 2000 + [4095] * 2096, 0), "2 of 256 grey values"),
        (lut([], 0, LUTDescriptor=[4096, 0, 16]), "0 entries"),
    ],
)
def test_a_table_that_does_not_fit_is_ignored(tmp_path, kind, table, cause):
    values = ramp(0, 4095, np.uint16)
    noted(written(tmp_path / "a.dcm", values, 12, **{kind: table}), values, cause)


@settings(max_examples=80, deadline=None)
@given(
    kind=st.sampled_from(["u1", "u2", "i2"]),
    sequence=st.sampled_from(["VOILUTSequence", "ModalityLUTSequence"]),
    count=st.integers(100, 3000),
    place=st.floats(0, 0.6),
    bits=st.sampled_from([8, 12, 16]),
    falling=st.booleans(),
    padding=st.booleans(),
    implicit=st.booleans(),
    seed=st.integers(0, 99),
)
def test_tables_of_every_form_are_looked_up(kind, sequence, count, place, bits, falling, padding, implicit, seed):
    low, high, stored = KINDS[kind]
    values = ramp(low, min(high, low + 2 * count), kind)
    first = low + int(place * (min(high, low + 2 * count) - low))
    entries = np.random.default_rng(seed).integers(0, 2**bits, count)
    entries = np.sort(entries)[::-1] if falling else entries
    table = lut(entries, 0, bits)
    descriptor = [count, first, bits] if kind == "i2" else [count, first % 2**16, bits]
    table[0].add_new("LUTDescriptor", "SS" if kind == "i2" else "US", descriptor)
    made = dataset("table", values, stored, **{sequence: table})
    if padding:
        made.add_new("PixelPaddingValue", "SS" if kind == "i2" else "US", int(values[5, 5]))
    if implicit:
        made.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    found = radiograph.of_dataset(pydicom.dcmread(io.BytesIO(saved(made)))).pixels.astype(int)
    shown = entries[np.clip(values.astype(int) - first, 0, count - 1)]
    ignored = values == values[5, 5] if padding else np.zeros(values.shape, bool)
    assert not found[ignored].any()
    shown[ignored] = shown[~ignored].min()
    assert near(found, stretched(shown))


def test_entries_of_8_bits_may_be_packed(tmp_path):
    values = ramp(0, 255, np.uint8)
    entries = np.arange(256, dtype=np.uint8)[::-1]
    table = lut(entries, 0, 8)
    table[0].add_new("LUTData", "OW", entries.tobytes())
    found, notes = pixels_of(written(tmp_path / "a.dcm", values, 8, VOILUTSequence=table))
    assert near(found, stretched(-values.astype(int)))
    assert notes == ()


@pytest.mark.parametrize("first", [-1000, 2**16 - 1000])
def test_the_first_entry_may_be_given_with_the_other_sign(tmp_path, first):
    values = ramp(-1000, 3000, np.int16)
    table = lut(np.arange(4001) ** 2 // 300, 0)
    table[0].add_new("LUTDescriptor", "SS" if first < 0 else "US", [4001, first, 16])
    found, notes = pixels_of(written(tmp_path / "a.dcm", values, 16, VOILUTSequence=table))
    assert near(found, stretched((values.astype(int) + 1000) ** 2 // 300))
    assert notes == ()


def test_a_window_may_leave_an_image_that_is_mostly_of_one_value(tmp_path):
    values = np.full((200, 200), 100, np.uint16)
    values[:10, :20] = ramp(0, 4095, np.uint16)[:10, :20]
    values[:10, :20] += np.arange(200, dtype=np.uint16).reshape(10, 20) * 9
    path = written(tmp_path / "a.dcm", values, 12, WindowCenter=900, WindowWidth=1800)
    found, notes = pixels_of(path)
    assert near(found, stretched(np.clip(values, 0, 1799)), levels=2)
    assert notes == ()
