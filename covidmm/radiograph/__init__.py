"""Reads chest radiographs from DICOM, PNG, JPEG and TIFF files; no other package decodes DICOM pixels."""

from covidmm.radiograph.header import PREPARED_FIELDS, Header
from covidmm.radiograph.image import MAX_PIXELS, Radiograph, resize_longer
from covidmm.radiograph.plain_images import of_array
from covidmm.radiograph.reader import of_dataset, read, read_header

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
