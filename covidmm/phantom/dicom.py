"""Encodes a picture as a DICOM file."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, config, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLosslessSV1, RLELossless

from covidmm.errors import DataError
from covidmm.phantom.canvas import Picture
from covidmm.phantom.study import Study

_DX = UID("1.2.840.10008.5.1.4.1.1.1.1")
_CR = UID("1.2.840.10008.5.1.4.1.1.1")
_DATE = "20200401"
# Named, since the first that pydicom finds may be gdcm, whose RLE encoder aborts the process on some sizes.
_ENCODERS = {RLELossless: "pydicom", JPEG2000Lossless: "pylibjpeg"}


def encode(study: Study, number: int, grey: Picture) -> bytes:
    """A complete DICOM file.

    Args:
        study: says photometric interpretation, bit depth, compression and windows.
        number: which of its images.
        grey: (H, W) in 0..1, 0 = black.
    """
    # SIIM's ids are 12 hex digits, which is no valid UID; readers must cope, and so must this writer.
    with config.disable_value_validation():
        dataset = _header(study, number, grey.shape)
        stored = _stored(study, grey)
        dataset.PixelData = stored.tobytes()
        dataset["PixelData"].VR = "OB" if study.bits == 8 else "OW"
        _windows(dataset, study, stored)
        if study.syntax == JPEGLosslessSV1:
            _compress_jpeg_lossless(dataset)
        elif study.syntax != ExplicitVRLittleEndian:
            plugin = _ENCODERS[study.syntax]
            dataset.compress(study.syntax, encoding_plugin=plugin, generate_instance_uid=False)
        return _file_bytes(dataset)


def _file_bytes(dataset: Dataset) -> bytes:
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def _header(study: Study, number: int, shape: tuple[int, ...]) -> Dataset:
    image = study.images[number]
    patient = study.patient
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = _DX if study.modality == "DX" else _CR
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = image
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study.study, study.series[number]
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.StudyDate, dataset.StudyTime, dataset.AccessionNumber = _DATE, "120000", ""
    dataset.Modality = study.modality
    dataset.Manufacturer = "covidmm phantom"
    dataset.PatientName = dataset.PatientID = study.patient_id
    dataset.PatientSex, dataset.PatientAge = patient.sex, f"{patient.age:03d}Y"
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = "Synthetic: drawn by a program, no patient"
    dataset.BodyPartExamined, dataset.ViewPosition = "CHEST", patient.view
    dataset.StudyID, dataset.SeriesNumber, dataset.InstanceNumber = "", number + 1, 1
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, study.photometric
    dataset.Rows, dataset.Columns = shape
    dataset.BitsAllocated = 8 if study.bits == 8 else 16
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = study.bits, study.bits - 1, 0
    if study.intercept:
        dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = study.intercept, 1, "US"
    return dataset


def _stored(study: Study, grey: Picture) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Grey 0..1 as stored values; a detector leaves a little of its range unused at both ends."""
    top = (1 << study.bits) - 1
    values = np.round((0.02 + 0.94 * grey) * top)
    if study.photometric == "MONOCHROME1":
        values = top - values
    return values.astype(np.uint8 if study.bits == 8 else np.uint16)


def _windows(dataset: Dataset, study: Study, stored: NDArray) -> None:
    """Windows that hold nearly all values, in the units after rescaling."""
    if not study.windows:
        return
    low, high = np.percentile(stored, (1, 99.7)) + study.intercept
    centre, width = round(float(low + high) / 2), max(2, round(float(high - low)))
    both = study.windows == 2
    dataset.WindowCenter = [centre, centre + width // 10] if both else centre
    dataset.WindowWidth = [width, max(2, width * 4 // 5)] if both else width
    dataset.WindowCenterWidthExplanation = ["NORMAL", "HARDER"] if both else "NORMAL"


def _compress_jpeg_lossless(dataset: Dataset) -> None:
    """JPEG Lossless, selection value 1, which pydicom cannot encode: gdcm does, from file to file."""
    import gdcm

    with tempfile.TemporaryDirectory() as folder:
        raw, packed = Path(folder, "raw.dcm"), Path(folder, "packed.dcm")
        raw.write_bytes(_file_bytes(dataset))
        reader = gdcm.ImageReader()
        reader.SetFileName(str(raw))
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(packed))
        done = reader.Read()
        if done:
            change.SetInput(reader.GetImage())
            done = change.Change()
        if done:
            writer.SetFile(reader.GetFile())
            writer.SetImage(change.GetOutput())
            done = writer.Write()
        if not done:
            raise DataError(f"image {dataset.SOPInstanceUID}: gdcm could not encode JPEG Lossless")
        frame = next(generate_frames(dcmread(packed).PixelData, number_of_frames=1))
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1
