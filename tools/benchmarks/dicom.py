"""Reading and preparing a radiograph, against pydicom on every pixel and Pillow."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from benchmarks.timing import time_in_turn
from covidmm.prepare.options import Options
from covidmm.prepare.pixels import Job, convert
from covidmm.radiograph import read, resize_longer
from covidmm.radiograph.grey import grey_of_stored
from covidmm.utils.malloc import RADIOGRAPHS, keep_freed_memory

DISTRIBUTIONS = ("numpy", "pydicom", "opencv-python-headless", "pillow")
Way = Callable[[], Any]

#: Header attributes of the measured images: the least that a radiograph has, and all that the mapping honours.
DICOM_CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "window": {
        "PhotometricInterpretation": "MONOCHROME1",
        "RescaleSlope": 1,
        "RescaleIntercept": 0,
        "WindowCenter": 2048,
        "WindowWidth": 3000,
    },
}


@dataclass(frozen=True)
class Comparison:
    """covidmm against the plain way on one input.

    ``stage`` is "mapping" where only the way from decoded values to grey counts, "file" where reading and decoding,
    the same work for both, count too, and "prepare" for all that `tools/prepare.py` does with a file, down to the
    PNG of 1024 pixels. The seconds are medians, ``ratio`` says how many times faster covidmm is, and
    ``largest_difference`` is in grey levels of 0..255.
    """

    case: str
    stage: str
    seconds: float
    plain_seconds: float
    ratio: float
    largest_difference: int

    @property
    def equal(self) -> bool:
        """Whether both results agree within one grey level."""
        return self.largest_difference <= 1


def compare(height: int, width: int, repeats: int) -> list[Comparison]:
    """Measure covidmm's way from an uncompressed 12-bit DICOM file to 0..255 against pydicom's on every pixel.

    Each case is measured thrice: the grey mapping of decoded values alone; the whole way from a file of
    (``height``, ``width``) pixels in the page cache, :func:`covidmm.radiograph.read`; and the way on to a PNG,
    :func:`covidmm.prepare.pixels.convert`, beside Pillow's Lanczos filter and PNG; there
    the PNG is compared with the plain way's grey, reduced as covidmm does. Both ways run once to warm up, then
    ``repeats`` times in turn, in one thread.

    Raises:
        ValueError: a size or number of repeats below 1.
    """
    if min(height, width, repeats) < 1:
        raise ValueError("height, width and repeats must be at least 1")
    stored = chest_like(height, width)
    found = []
    cv2.setNumThreads(0)  # as in the workers of prepare
    keep_freed_memory(RADIOGRAPHS)  # likewise; both ways gain
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.dcm"
        for case, attributes in DICOM_CASES.items():
            write_file(path, stored, attributes)
            found += _compare_case(case, path, repeats)
    return found


def straightforward(stored: NDArray, dataset: Dataset) -> NDArray[np.uint8]:
    """(H, W) grey by modality LUT, VOI LUT, inversion and min-max in float64, pixel by pixel."""
    shown = apply_voi_lut(apply_modality_lut(stored, dataset), dataset).astype(np.float64)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        shown = shown.max() - shown
    shown -= shown.min()
    return (shown / (shown.max() or 1) * 255).astype(np.uint8)


def benchmark(height: int = 2800, width: int = 3000, repeats: int = 7) -> dict[str, Any]:
    """:func:`compare`; ``accepted`` is whether all cases are equal."""
    cases = [asdict(one) | {"equal": one.equal} for one in compare(height, width, repeats)]
    return {
        "image": {"height": height, "width": width, "bits_stored": 12},
        "repeats": repeats,
        "cases": cases,
        "accepted": all(one["equal"] for one in cases),
    }


def format_report(report: dict[str, Any]) -> str:
    """A table for people, ratio first."""
    columns = f"{'covidmm ms':>11} {'plain ms':>9} {'images/s':>9}"
    lines = [f"{'ratio':>6} {'case':<8} {'stage':<8} {columns}  largest difference"]
    for one in report["cases"]:
        verdict = "" if one["equal"] else "  NOT EQUAL within one grey level"
        times = f"{one['seconds'] * 1e3:>11.1f} {one['plain_seconds'] * 1e3:>9.1f} {1 / one['seconds']:>9.1f}"
        name = f"{one['ratio']:>5.1f}x {one['case']:<8} {one['stage']:<8}"
        lines.append(f"{name} {times}  {one['largest_difference']}{verdict}")
    return "\n".join([*lines, "ratio: so many times as fast; images per second of one core"])


def _compare_case(case: str, path: Path, repeats: int) -> list[Comparison]:
    dataset = dcmread(path)
    stored = dataset.pixel_array

    def plain_file() -> NDArray[np.uint8]:
        again = dcmread(path)
        return straightforward(again.pixel_array, again)

    def plain_prepare() -> None:
        shown = Image.fromarray(plain_file())
        shown.thumbnail((Options.max_size, Options.max_size), Image.Resampling.LANCZOS)
        shown.save(path.with_suffix(".plain.png"))

    png = path.with_suffix(".png")
    job = Job(path, png, png.name, Options.max_size, mask_markers=False)
    convert(job)
    plain = straightforward(stored, dataset)
    reduced = resize_longer(plain, Options.max_size)
    stages: dict[str, tuple[NDArray[np.uint8], NDArray[np.uint8], Way, Way]] = {
        "mapping": (
            grey_of_stored(stored, dataset, []),
            plain,
            lambda: grey_of_stored(stored, dataset, []),
            lambda: straightforward(stored, dataset),
        ),
        "file": (read(path).pixels, plain, lambda: read(path), plain_file),
        "prepare": (np.asarray(Image.open(png)), reduced, lambda: convert(job), plain_prepare),
    }
    return [_compare(case, stage, *compared, repeats) for stage, compared in stages.items()]


def _compare(
    case: str, stage: str, found: NDArray[np.uint8], expected: NDArray[np.uint8], ours: Way, plain: Way, repeats: int
) -> Comparison:
    difference = int(np.abs(found.astype(np.int16) - expected).max())
    seconds, plain_seconds, ratio = time_in_turn(ours, plain, repeats)
    return Comparison(case, stage, seconds, plain_seconds, 1 / ratio, difference)


def chest_like(height: int, width: int) -> NDArray[np.uint16]:
    """(H, W) of 12 bits: a smooth shade with noise, so that neighbours differ as on a radiograph."""
    shade = np.add.outer(np.hanning(height) * 1900, np.hanning(width) * 1900)
    noise = np.random.default_rng(0).normal(0, 40, (height, width))
    return np.clip(shade + noise + 100, 0, 4095).astype(np.uint16)


def write_file(path: Path, stored: NDArray[np.uint16], attributes: dict[str, Any]) -> None:
    """Write (H, W) stored values as an uncompressed 12-bit DICOM with some more attributes."""
    dataset = Dataset()
    dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID = generate_uid()
    dataset.Rows, dataset.Columns = stored.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    for name, value in attributes.items():
        setattr(dataset, name, value)
    dataset.PixelData = stored.astype("<u2").tobytes()
    dataset.ensure_file_meta()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)
