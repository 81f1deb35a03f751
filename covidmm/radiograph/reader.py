"""Reads one chest radiograph from a DICOM, PNG, JPEG or TIFF file.

The grey mapping is in :mod:`covidmm.radiograph.grey`. pydicom is imported where it is used, in this package: its
0.2 s would slow the start of a training, which reads PNGs only.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from covidmm.errors import RadiographError
from covidmm.radiograph.bounds import BoundedFile, require_deflated_size, require_file
from covidmm.radiograph.grey import grey_of_stored, luminance, stretch, stretch_parts
from covidmm.radiograph.header import KEYWORDS, Header
from covidmm.radiograph.stored_bits import Layout, stored_values

if TYPE_CHECKING:
    from pydicom import Dataset

# pydicom logs a traceback for every file that it cannot decode; here it becomes an error of one line.
logging.getLogger("pydicom").addHandler(logging.NullHandler())
logging.getLogger("openjpeg").addHandler(logging.NullHandler())

#: No radiograph has more pixels, times samples per pixel; a header that declares more is a mistake or an attack.
#: Chosen here: a film of 35 cm x 43 cm scanned at 50 micrometres has less than half of it.
MAX_PIXELS = 2**27

#: Beginnings of PNG, JPEG, TIFF and BigTIFF.
_PICTURE_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")


@dataclass(frozen=True)
class Radiograph:
    """A radiograph in display grey.

    ``pixels`` is (height, width) uint8, read-only, with air black. ``notes`` lists what was left out or changed:
    further frames, a window that was ignored, excess bytes.
    """

    header: Header
    pixels: NDArray[np.uint8]
    notes: tuple[str, ...] = ()

    def shrunk(self, max_size: int) -> Radiograph:
        """The same with a longer side of at most ``max_size`` pixels; its header keeps the original's size."""
        pixels = resize_longer(self.pixels, max_size)
        pixels.setflags(write=False)
        return replace(self, pixels=pixels)


def read(path: str | Path) -> Radiograph:
    """Read one radiograph.

    Raises:
        RadiographError: the file is missing, damaged, or holds no image that can be decoded; one line that
            names the file and the cause.
    """
    path = Path(path)
    with _one_line_errors(path), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        require_file(path)
        if _is_picture(path):
            return _read_picture(path)
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
    with _one_line_errors(path):
        return _of_dataset(path, dataset)


def of_array(pixels: NDArray) -> Radiograph:
    """A grey image (height, width) with air black; 8 bits stay as they are, others are stretched to 0..255.

    Raises:
        RadiographError: another shape, or values that are not finite numbers.
    """
    path = Path("array")
    with _one_line_errors(path):
        pixels = np.asarray(pixels)
        if pixels.ndim != 2:
            raise ValueError(f"a grey image has two dimensions, not the shape {pixels.shape}")
        _check_size(*pixels.shape, 1)
        grey = pixels.copy() if pixels.dtype == np.uint8 else stretch(pixels.astype(np.float64))
    grey.setflags(write=False)
    return Radiograph(Header(path, *pixels.shape), grey)


def read_header(path: str | Path) -> Header:
    """Read what is known of a radiograph without decoding a pixel.

    Raises:
        RadiographError: as :func:`read`, except for faults of the pixels.
    """
    path = Path(path)
    with _one_line_errors(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        require_file(path)
        if _is_picture(path):
            with BoundedFile(path) as file, Image.open(file) as picture:
                return Header(path, picture.height, picture.width, bits_stored=_bits(picture.mode))
        return Header.of_dataset(path, _dataset(path, header_only=True))


def resize_longer(pixels: NDArray[np.uint8], max_size: int) -> NDArray[np.uint8]:
    """Shrink (H, W) pixels to a longer side of at most ``max_size``, keeping the aspect; never enlarge."""
    height, width = pixels.shape
    scale = max_size / max(height, width)
    if scale >= 1:
        return pixels
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


@contextmanager
def _one_line_errors(path: Path) -> Iterator[None]:
    """Give every fault of a file the form ``path: cause``."""
    try:
        yield
    except FileNotFoundError as error:
        raise RadiographError(f"{path}: no such file") from error
    except PermissionError as error:
        raise RadiographError(f"{path}: may not be read") from error
    except UnidentifiedImageError as error:
        raise RadiographError(f"{path}: damaged picture") from error
    except MemoryError as error:
        raise RadiographError(f"{path}: does not fit into memory") from error
    except RecursionError as error:
        raise RadiographError(f"{path}: sequences inside sequences, deeper than any radiograph's") from error
    except Exception as error:  # decoders of foreign bytes raise anything
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        cause = " ".join(text.split()) or type(error).__name__
        raise RadiographError(f"{path}: {cause[:300]}") from error


def _is_picture(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(132)
    # a DICOM file's preamble may be anything, the head of a picture too (PS3.10, 7.1)
    return head[128:] != b"DICM" and head.startswith(_PICTURE_MAGIC)


def _bits(mode: str) -> int:
    return {"1": 1, "I": 32, "F": 32}.get(mode, 16 if mode.startswith("I;16") else 8)


def _read_picture(path: Path) -> Radiograph:
    """A PNG, JPEG or TIFF: 8 bits as they are, more stretched as DICOM is, colours as luminance."""
    with BoundedFile(path) as file, Image.open(file) as picture:
        _check_size(picture.height, picture.width, len(picture.getbands()))
        header = Header(path, picture.height, picture.width, bits_stored=_bits(picture.mode))
        notes = [f"first of {picture.n_frames} pages"] if getattr(picture, "n_frames", 1) > 1 else []
        deep = header.bits_stored > 8
        pixels = stretch_parts(np.asarray(picture)) if deep else np.array(picture.convert("L"))
    pixels.setflags(write=False)
    return Radiograph(header, pixels, tuple(notes))


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
    pixels, notes = _decode(dataset, header)
    pixels.setflags(write=False)
    return Radiograph(header, pixels, tuple(notes))


def _check_size(height: int, width: int, samples: int) -> None:
    if height < 1 or width < 1:
        raise ValueError(f"declares an image of {height} rows and {width} columns")
    if height * width * samples > MAX_PIXELS:
        shown = f"{height} x {width} pixels" + f" of {samples} samples" * (samples > 1)
        raise ValueError(f"declares {shown}, more than the {MAX_PIXELS:,} that are allowed")


def _decode(dataset: Dataset, header: Header) -> tuple[NDArray[np.uint8], list[str]]:
    samples = int(dataset.get("SamplesPerPixel") or 1)
    _check_size(header.height, header.width, samples)
    if not any(dataset.get(name) for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise ValueError("has no pixel data")
    notes = [f"first of {header.frames} frames"] if header.frames > 1 else []
    stored = _stored(dataset, header, samples)
    if samples > 1:
        return stretch_parts(stored, luminance), notes
    if header.photometric == "PALETTE COLOR":
        return stretch_parts(stored, _palette(dataset)), notes
    return grey_of_stored(stored, dataset, notes), notes


def _palette(dataset: Dataset) -> Callable[[NDArray], NDArray]:
    from pydicom.pixels import apply_color_lut

    def show(part: NDArray) -> NDArray:
        try:
            return luminance(apply_color_lut(part, dataset))
        except Exception as error:  # pydicom raises anything
            raise ValueError(f"its palette cannot be applied ({error})") from error

    return show


def _stored(dataset: Dataset, header: Header, samples: int) -> NDArray:
    """The first frame's values as they are stored, colours as RGB."""
    from pydicom.encaps import get_frame
    from pydicom.pixels import pixel_array
    from pydicom.uid import UID

    from covidmm.radiograph.codecs import DECODERS, decoder_cause, needs_codec, require_size

    syntax = UID(header.transfer_syntax or "")
    if syntax not in DECODERS:
        raise ValueError(f"unsupported transfer syntax {syntax} ({syntax.name})")
    if needs_codec(syntax):
        frame = get_frame(dataset.PixelData, 0, number_of_frames=header.frames)
        require_size(frame, syntax, (header.height, header.width, samples))
    try:
        cells = pixel_array(
            dataset, index=0, raw=samples == 1, correct_unused_bits=samples > 1, decoding_plugin=DECODERS[syntax]
        )
        return stored_values(cells, Layout.of_dataset(dataset, cells.dtype.itemsize * 8, []))
    except RuntimeError as error:
        raise ValueError(decoder_cause(error)) from error
