"""One chest radiograph in memory, from DICOM, PNG, JPEG or TIFF; the only package that knows pixel DICOM."""

from covidmm.radiograph.reader import (
    MAX_PIXELS,
    Header,
    Radiograph,
    of_array,
    of_dataset,
    read,
    read_header,
    resize_longer,
)

__all__ = ["MAX_PIXELS", "Header", "Radiograph", "of_array", "of_dataset", "read", "read_header", "resize_longer"]
