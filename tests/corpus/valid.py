"""Small valid radiographs in memory: one DICOM file per transfer syntax, and pictures. The same bytes each time."""

from __future__ import annotations

import io
import warnings
import zlib
from functools import cache
from typing import Any

import cv2
import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from covidmm.phantom.dicom import _compress_jpeg_lossless

HEIGHT, WIDTH = 64, 56
#: Where a DICOM file's meta header begins to be counted: after preamble, magic and the element that counts it.
META_START = 128 + 4 + 12


def smooth(top: int = 4095, dtype: Any = np.uint16, height: int = HEIGHT, width: int = WIDTH) -> NDArray:
    """A ramp with a bright disc: it compresses, and no two rows are the same."""
    rows, columns = np.mgrid[:height, :width]
    disc = ((rows - height / 2) ** 2 + (columns - width / 2) ** 2 < (height / 4) ** 2) * 0.3
    return (((rows * 3 + columns * 5) / (height * 3 + width * 5) * 0.7 + disc) * top).astype(dtype)


def dataset(name: str, pixels: NDArray | None = None, bits: int = 12, **attributes: Any) -> Dataset:
    """A radiograph whose UIDs are its name's.

    An attribute that is None is left out, one given in bytes is written as it stands, whatever its type allows.
    """
    pixels = smooth() if pixels is None else pixels
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = DigitalXRayImageStorageForPresentation
    number = zlib.crc32(name.encode())
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = f"1.2.3.{number}"
    made.StudyInstanceUID, made.SeriesInstanceUID = f"1.2.4.{number}", f"1.2.5.{number}"
    made.PatientID, made.PatientSex, made.PatientAge = "p1", "F", "045Y"
    made.ViewPosition, made.Modality = "PA", "DX"
    made.Rows, made.Columns = pixels.shape[:2]
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit = pixels.itemsize * 8, bits, bits - 1
    made.PixelRepresentation = int(pixels.dtype.kind == "i")
    made.PixelData = pixels.tobytes()
    with pydicom.config.disable_value_validation():
        for attribute, value in attributes.items():
            if value is None:
                delattr(made, attribute)
            elif isinstance(value, bytes):
                made[attribute] = _raw(attribute, value + b" " * (len(value) % 2))
            else:
                setattr(made, attribute, value)
    if "PixelData" in made:
        made["PixelData"].VR = "OW"  # pydicom would work it out from tags that may be missing
    return made


def _raw(attribute: str, value: bytes) -> RawDataElement:
    tag = pydicom.tag.Tag(attribute)
    kind = pydicom.datadict.dictionary_VR(tag)
    kind = "OW" if " or " in kind else kind
    return RawDataElement(tag, kind, len(value), value, 0, False, True)


def saved(made: Dataset) -> bytes:
    """The file of a dataset, with preamble and meta header."""
    file = io.BytesIO()
    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        made.save_as(file, enforce_file_format=True)
    return file.getvalue()


def encapsulated(made: Dataset, syntax: UID, stream: bytes) -> bytes:
    """The file of a dataset with one frame of compressed bytes."""
    made.file_meta.TransferSyntaxUID = syntax
    made.PixelData = encapsulate([stream])
    made["PixelData"].is_undefined_length = True
    return saved(made)


def stream(syntax: UID) -> bytes:
    """The compressed bytes of one frame of :func:`smooth`."""
    return next(iter(pydicom.encaps.generate_frames(pydicom.dcmread(io.BytesIO(compressed("x", syntax))).PixelData)))


def compressed(name: str, syntax: UID) -> bytes:
    """A valid file in a transfer syntax."""
    made = dataset(name)
    if syntax == JPEGBaseline8Bit:
        grey = smooth(255, np.uint8)
        return encapsulated(dataset(name, grey, 8), syntax, cv2.imencode(".jpg", grey)[1].tobytes())
    if syntax == JPEGLosslessSV1:
        _compress_jpeg_lossless(made)
    elif syntax == JPEG2000:
        made.compress(syntax, j2k_cr=[5], generate_instance_uid=False)
    elif syntax.is_encapsulated:
        made.compress(syntax, generate_instance_uid=False)
    elif syntax == ExplicitVRBigEndian:
        made.PixelData = smooth().astype(">u2").tobytes()
        made.file_meta.TransferSyntaxUID = syntax
        file = io.BytesIO()
        made.save_as(file, implicit_vr=False, little_endian=False, enforce_file_format=True)
        return file.getvalue()
    else:
        made.file_meta.TransferSyntaxUID = syntax
    return saved(made)


def picture(pixels: NDArray, kind: str, **options: Any) -> bytes:
    """A PNG, JPEG or TIFF file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def zeros(mebibytes: int) -> bytes:
    """So many MiB of zeros in the middle of a deflate stream, made at once: every block is a copy of the first."""
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    return (packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)) * mebibytes


SYNTAXES = {
    "explicit": ExplicitVRLittleEndian,
    "implicit": ImplicitVRLittleEndian,
    "big_endian": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "rle": RLELossless,
    "jpeg_baseline": JPEGBaseline8Bit,
    "jpeg_lossless": JPEGLosslessSV1,
    "jpeg_ls": JPEGLSLossless,
    "jpeg_2000": JPEG2000Lossless,
    "jpeg_2000_lossy": JPEG2000,
}


@cache
def valid_files() -> dict[str, bytes]:
    """File name -> content, of every form that covidmm reads."""
    grey, deep = smooth(255, np.uint8), smooth(60000)
    colours = np.stack([grey, grey // 2, 255 - grey], -1)
    files = {f"{name}.dcm": compressed(f"{name}.dcm", syntax) for name, syntax in SYNTAXES.items()}
    files["colour.dcm"] = saved(
        dataset("colour.dcm", colours, 8, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0)
    )
    files["window.dcm"] = saved(
        dataset("window.dcm", WindowCenter=[2000, 1000], WindowWidth=[3000, 500], RescaleSlope=2, RescaleIntercept=-9)
    )
    return files | {
        "grey.png": picture(grey, "PNG"),
        "deep.png": picture(deep, "PNG"),
        "colour.png": picture(colours, "PNG"),
        "grey.jpg": picture(grey, "JPEG"),
        "progressive.jpg": picture(colours, "JPEG", progressive=True),
        "grey.tif": picture(grey, "TIFF"),
        "deep.tif": picture(deep, "TIFF", compression="tiff_lzw"),
        "deflated.tif": picture(colours, "TIFF", compression="tiff_adobe_deflate"),
        "float.tif": picture(grey.astype(np.float32), "TIFF"),
    }
