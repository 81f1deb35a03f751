"""Wraps a phantom's grey values into DICOM, with the variety of real archives."""

from __future__ import annotations

import io
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pydicom import Dataset

Choice = TypeVar("Choice")

#: BitsStored and their frequencies in SIIM's 6,334 images (system-spec section 1), rare ones made less rare.
_BITS = ((8, 0.10), (10, 0.04), (12, 0.56), (14, 0.06), (15, 0.18), (16, 0.06))
_MONOCHROME1 = 1701 / 6334
_SYNTAXES = (("raw", 0.76), ("jpeg_lossless", 0.12), ("jpeg_2000", 0.06), ("rle", 0.06))


@dataclass(frozen=True)
class Acquisition:
    """Who and what a picture is of. ``age`` is in years."""

    study: str
    series: str
    image: str
    patient: str
    sex: str
    age: int


def encode(grey: NDArray[np.float32], acquisition: Acquisition, rng: np.random.Generator) -> bytes:
    """A DICOM file of (H, W) grey values in 0..1, air 0.

    Bit depth, photometric interpretation, compression, window and rescale are drawn by ``rng``; whatever is
    drawn, a viewer shows the same picture.
    """
    with warnings.catch_warnings():
        # SIIM's identifiers, and so the phantoms', are 12 hex digits where DICOM asks for dotted numbers
        warnings.filterwarnings("ignore", message="Invalid value for VR UI")
        return _encode(grey, acquisition, rng)


def _encode(grey: NDArray[np.float32], acquisition: Acquisition, rng: np.random.Generator) -> bytes:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

    bits = _draw(_BITS, rng)
    syntax = _draw(_SYNTAXES, rng)
    inverted = bool(rng.random() < _MONOCHROME1)
    top = 2**bits - 1
    # detectors rarely fill their range
    low, high = (int(top * rng.uniform(a, b)) for a, b in ((0.0, 0.06), (0.85, 1.0)))
    stored = np.rint(low + (high - low) * (1 - grey if inverted else grey)).astype(np.uint8 if bits == 8 else np.uint16)

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.file_meta.MediaStorageSOPInstanceUID = acquisition.image
    dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID = acquisition.image
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = acquisition.study, acquisition.series
    dataset.StudyDate, dataset.PatientName = "20200101", "Phantom"
    dataset.PatientID, dataset.PatientSex = acquisition.patient, acquisition.sex
    dataset.PatientAge = f"{acquisition.age:03d}Y"
    dataset.Modality = str(rng.choice(["DX", "CR"]))
    dataset.ViewPosition = str(rng.choice(["PA", "AP"]))
    dataset.BodyPartExamined = "CHEST"
    dataset.Manufacturer = "covidmm phantom"
    dataset.Rows, dataset.Columns = stored.shape
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
    dataset.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    dataset.BitsAllocated = stored.itemsize * 8
    offset = 0
    if rng.random() < 0.15:
        offset = -1024 if bits > 10 else -16
        dataset.RescaleIntercept, dataset.RescaleSlope = offset, 1
    if rng.random() < 0.4:
        dataset.WindowCenter, dataset.WindowWidth = (low + high) / 2 + offset, high - low + 2
    dataset.PixelData = stored.tobytes()
    return _compressed(dataset, syntax)


def _compressed(dataset: Dataset, syntax: str) -> bytes:
    from pydicom.uid import JPEG2000Lossless, RLELossless

    if syntax == "jpeg_2000":
        dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
    elif syntax == "rle":
        dataset.compress(RLELossless, generate_instance_uid=False)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return _jpeg_lossless(buffer.getvalue()) if syntax == "jpeg_lossless" else buffer.getvalue()


def _jpeg_lossless(plain: bytes) -> bytes:
    """Recompress a file as JPEG Lossless, process 14, selection value 1 (…4.70), which only gdcm can write."""
    import gdcm

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "plain.dcm"), Path(folder, "packed.dcm")
        source.write_bytes(plain)
        reader = gdcm.ImageReader()
        reader.SetFileName(str(source))
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        if not reader.Read():
            raise RuntimeError("gdcm cannot read the phantom")
        change.SetInput(reader.GetImage())
        if not change.Change():
            raise RuntimeError("gdcm cannot write JPEG Lossless")
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(target))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        if not writer.Write():
            raise RuntimeError("gdcm cannot write JPEG Lossless")
        return target.read_bytes()


def _draw(options: tuple, rng: np.random.Generator):
    names, shares = zip(*options, strict=True)
    return names[int(rng.choice(len(names), p=np.array(shares) / sum(shares)))]
