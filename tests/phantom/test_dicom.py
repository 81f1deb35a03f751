import io
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLosslessSV1, RLELossless

from covidmm.phantom.dicom import encode
from covidmm.phantom.study import plan_study

# SIIM's ids, 12 hex digits, are no valid UIDs.
pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR UI")

GREY = np.linspace(0, 1, 48 * 40, dtype=np.float32).reshape(48, 40)
PLAIN = replace(
    plan_study(0, 0, (128, 128)),
    photometric="MONOCHROME2", bits=12, syntax=ExplicitVRLittleEndian, windows=0, intercept=0,
)  # fmt: skip


def read(study):
    return pydicom.dcmread(io.BytesIO(encode(study, 0, GREY)))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEGLosslessSV1, JPEG2000Lossless, RLELossless])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 15, 16])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_every_compression_is_lossless_at_every_depth(syntax, bits, photometric):
    study = replace(PLAIN, syntax=syntax, bits=bits, photometric=photometric)
    dataset = read(study)
    assert dataset.file_meta.TransferSyntaxUID == syntax
    assert (dataset.BitsStored, dataset.HighBit) == (bits, bits - 1)
    assert dataset.BitsAllocated == (8 if bits == 8 else 16)
    stored = dataset.pixel_array
    assert (stored == read(replace(study, syntax=ExplicitVRLittleEndian)).pixel_array).all()
    rising = stored.astype(int).ravel() if photometric == "MONOCHROME2" else -stored.astype(int).ravel()
    assert (np.diff(rising) >= 0).all()
    assert stored.max() < 2**bits
    assert np.ptp(stored) > 0.9 * (2**bits - 1)


def test_header_names_the_patient_and_says_that_there_is_none():
    dataset = read(PLAIN)
    assert dataset.SOPInstanceUID == dataset.file_meta.MediaStorageSOPInstanceUID == PLAIN.images[0]
    assert (dataset.StudyInstanceUID, dataset.SeriesInstanceUID) == (PLAIN.study, PLAIN.series[0])
    assert dataset.PatientID == PLAIN.patient_id
    assert dataset.PatientSex == PLAIN.patient.sex
    assert dataset.PatientAge == f"{PLAIN.patient.age:03d}Y"
    assert dataset.ViewPosition == PLAIN.patient.view
    assert "Synthetic" in dataset.DeidentificationMethod


@pytest.mark.parametrize("windows", [1, 2])
@pytest.mark.parametrize("intercept", [0, -1024])
def test_a_window_keeps_nearly_all_greys(windows, intercept):
    dataset = read(replace(PLAIN, windows=windows, intercept=intercept))
    values = apply_modality_lut(dataset.pixel_array, dataset)
    assert values.min() >= intercept
    shown = apply_voi_lut(values, dataset, index=0)
    assert np.corrcoef(shown.ravel(), GREY.ravel())[0, 1] > 0.99
    assert pydicom.multival.MultiValue is type(dataset.WindowCenter) if windows == 2 else True
