"""Reads one chest radiograph from a DICOM, PNG, JPEG or TIFF file.

The grey mapping is in :mod:`covidmm.radiograph.grey`. pydicom is imported where it is used, in this package: its
0.2 s would slow the start of a training, which reads PNGs only.
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from covidmm.radiograph.bounds import BoundedFile, require_deflated_size, require_file
from covidmm.radiograph.decoding import grey_of_dataset
from covidmm.radiograph.header import KEYWORDS, Header
from covidmm.radiograph.image import Radiograph, one_line_errors
from covidmm.radiograph.plain_images import picture_header, read_picture

if TYPE_CHECKING:
    from pydicom import Dataset

# pydicom logs a traceback for every file that it cannot decode; here it becomes an error of one line.
logging.getLogger("pydicom").addHandler(logging.NullHandler())
logging.getLogger("openjpeg").addHandler(logging.NullHandler())

#: Beginnings of PNG, JPEG, TIFF and BigTIFF.
_PICTURE_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")


def read(path: str | Path) -> Radiograph:
    """Read one radiograph.

    Raises:
        RadiographError: the file is missing, damaged, or holds no image that can be decoded; one line that
            names the file and the cause.
    """
    path = Path(path)
    with one_line_errors(path), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        require_file(path)
        if is_picture(_head(path)):
            return read_picture(path)
        dataset = _dataset(path)
        # pydicom continues with what it has, which may be nothing
        if any("nd of file" in str(warning.message) for warning in caught):
            raise ValueError("ends in the middle of an element: the file is cut short")
        found = _of_dataset(path, dataset)
        if any("excess padding" in str(warning.message) for warning in caught):
            found = replace(found, notes=(*found.notes, "excess pixel bytes ignored"))
        return found


def of_dataset(dataset: Dataset) -> Radiograph:
    """The radiograph in a pydicom dataset, as :func:`read` gives it.

    Raises:
        RadiographError: it holds no image that can be decoded.
    """
    path = Path(f"DICOM {dataset.get('SOPInstanceUID', 'object')}")
    with one_line_errors(path):
        return _of_dataset(path, dataset)


def read_header(path: str | Path) -> Header:
    """Read what is known of a radiograph without decoding a pixel.

    Raises:
        RadiographError: as :func:`read`, except for faults of the pixels.
    """
    path = Path(path)
    with one_line_errors(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        require_file(path)
        if is_picture(_head(path)):
            return picture_header(path)
        return Header.of_dataset(path, _dataset(path, header_only=True))


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(132)


def is_picture(head: bytes) -> bool:
    """Whether a file that begins so, with at least 132 bytes if it has them, is PNG, JPEG or TIFF, and not DICOM."""
    # a DICOM file's preamble may be anything, the head of a picture too (PS3.10, 7.1)
    return head[128:132] != b"DICM" and head.startswith(_PICTURE_MAGIC)


def _dataset(path: Path, header_only: bool = False) -> Dataset:
    import pydicom
    from pydicom.errors import InvalidDicomError

    require_deflated_size(path)
    options: dict[str, Any] = {"stop_before_pixels": header_only}
    if header_only:
        options["specific_tags"] = [*KEYWORDS, "SOPClassUID"]
    try:
        with BoundedFile(path) as file:
            return pydicom.dcmread(file, **options)
    except InvalidDicomError:
        # Old files lack the preamble. Whatever else lacks it has no image attributes either.
        with BoundedFile(path) as file:
            dataset = pydicom.dcmread(file, force=True, **options)
        if "Rows" not in dataset or "SOPClassUID" not in dataset:
            raise ValueError("is neither DICOM nor PNG, JPEG or TIFF") from None
        dataset.ensure_file_meta()
        if "TransferSyntaxUID" not in dataset.file_meta:
            implicit, little = dataset.original_encoding
            explicit = pydicom.uid.ExplicitVRLittleEndian if little else pydicom.uid.ExplicitVRBigEndian
            dataset.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian if implicit else explicit
        return dataset


def _of_dataset(path: Path, dataset: Dataset) -> Radiograph:
    header = Header.of_dataset(path, dataset)
    pixels, notes = grey_of_dataset(dataset, header)
    pixels.setflags(write=False)
    return Radiograph(header, pixels, tuple(notes))
