"""DICOM files for the tests of the reader: written to disk and read as every tool reads them."""

import warnings

import numpy as np
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian

from covidmm import radiograph
from tests.corpus.valid import dataset


def ramp(low, high, kind, side=40):
    """(side, side) values from ``low`` to ``high``: no two rows are the same."""
    return np.linspace(low, high, side * side).round().reshape(side, side).astype(kind)


def stretched(values):
    """Least to greatest onto 0..255, worked out here."""
    values = np.asarray(values, np.float64)
    return (values - values.min()) / (values.max() - values.min()) * 255


def written(path, cells, bits, big_endian=False, **attributes):
    """A file of uncompressed cells."""
    made = dataset(path.name, cells, bits, **attributes)
    syntax = ExplicitVRBigEndian if big_endian else ExplicitVRLittleEndian
    made.file_meta.TransferSyntaxUID = syntax
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if big_endian:
            cells = np.ascontiguousarray(cells)
            if cells.itemsize == 1:
                made["PixelData"].VR = "OB"
            made["PixelData"].value = cells.astype(cells.dtype.newbyteorder(">")).tobytes()
        made.save_as(path, implicit_vr=False, little_endian=not big_endian, enforce_file_format=True)
    return path


def pixels_of(path):
    """Its grey as signed numbers, and its notes."""
    found = radiograph.read(path)
    return found.pixels.astype(int), found.notes


def near(found, expected, levels=1):
    """Whether grey agrees within so many levels: values are truncated to whole ones."""
    return np.abs(found - np.floor(expected)).max() <= levels
