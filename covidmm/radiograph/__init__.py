"""Reads chest radiographs from DICOM, PNG, JPEG and TIFF files; no other package decodes DICOM pixels."""

from covidmm.radiograph.header import PREPARED_FIELDS, Header
from covidmm.radiograph.reader import (
    MAX_PIXELS,
    Radiograph,
    of_array,
    of_dataset,
    read,
    read_header,
    resize_longer,
)

__all__ = [
    "MAX_PIXELS",
    "PREPARED_FIELDS",
    "Header",
    "Radiograph",
    "of_array",
    "of_dataset",
    "read",
    "read_header",
    "resize_longer",
]
