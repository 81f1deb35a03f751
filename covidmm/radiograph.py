"""One chest radiograph in memory, from DICOM, PNG, JPEG or TIFF; the only place that knows pixel DICOM.

The grey mapping is the report's: modality LUT, VOI LUT or window, MONOCHROME1 inverted, stretched between the
least and the greatest value to 0..255 and truncated. It is worked out once per *possible* stored value, of
which there are at most 65,536, and looked up per pixel.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from covidmm.errors import RadiographError

if TYPE_CHECKING:
    from pydicom import Dataset

#: No radiograph has more pixels; a header that declares more is a mistake or an attack.
MAX_PIXELS = 2**28

_PICTURE_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"II*\x00", b"MM\x00*")
_HEADER_TAGS = (
    "Rows", "Columns", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID",
    "PhotometricInterpretation", "ViewPosition", "PatientSex", "PatientAge", "PatientID", "Modality",
    "BitsStored", "NumberOfFrames", "Manufacturer", "BodyPartExamined",
)  # fmt: skip


@dataclass(frozen=True)
class Header:
    """What is known of a radiograph without decoding a pixel. None stands for blank or absent.

    ``height`` and ``width`` are in pixels; ``study``, ``series`` and ``image`` are the DICOM instance UIDs;
    ``age`` is in completed years.
    """

    path: Path
    height: int
    width: int
    study: str | None = None
    series: str | None = None
    image: str | None = None
    photometric: str = "MONOCHROME2"
    view: str | None = None
    sex: str | None = None
    age: int | None = None
    modality: str | None = None
    patient: str | None = None
    bits_stored: int = 8
    transfer_syntax: str | None = None
    frames: int = 1
    manufacturer: str | None = None
    body_part: str | None = None


@dataclass(frozen=True)
class Radiograph:
    """A radiograph ready to be looked at.

    ``pixels`` is (height, width) uint8, read-only, with air black. ``notes`` says what a reader should know:
    frames left out, a window that was ignored, excess bytes.
    """

    header: Header
    pixels: NDArray[np.uint8]
    notes: tuple[str, ...] = ()


def read(path: str | Path) -> Radiograph:
    """Read one radiograph.

    Raises:
        RadiographError: the file is missing, damaged, or holds no image that can be decoded; one line that
            names the file and the cause.
    """
    path = Path(path)
    with _one_line_errors(path):
        if _is_picture(path):
            return _read_picture(path)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            dataset = _dataset(path)
            header = _header(path, dataset)
            pixels, notes = _decode(dataset, header)
        if any("excess padding" in str(warning.message) for warning in caught):
            notes.append("excess pixel bytes ignored")
        pixels.setflags(write=False)
        return Radiograph(header, pixels, tuple(notes))


def read_header(path: str | Path) -> Header:
    """Read what is known of a radiograph without decoding a pixel.

    Raises:
        RadiographError: as :func:`read`, except for faults of the pixels.
    """
    path = Path(path)
    with _one_line_errors(path):
        if _is_picture(path):
            from PIL import Image

            with Image.open(path) as picture:
                return Header(path, picture.height, picture.width, bits_stored=_bits(picture.mode))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _header(path, _dataset(path, header_only=True))


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
    from PIL import UnidentifiedImageError

    try:
        if path.is_dir():
            raise ValueError("is a folder, not a file")
        if path.exists() and not path.stat().st_size:
            raise ValueError("is empty")
        yield
    except FileNotFoundError as error:
        raise RadiographError(f"{path}: no such file") from error
    except PermissionError as error:
        raise RadiographError(f"{path}: may not be read") from error
    except UnidentifiedImageError as error:
        raise RadiographError(f"{path}: damaged picture") from error
    except MemoryError as error:
        raise RadiographError(f"{path}: does not fit into memory") from error
    except Exception as error:  # decoders of foreign bytes raise anything
        cause = " ".join(str(error).split()) or type(error).__name__
        raise RadiographError(f"{path}: {cause[:300]}") from error


def _is_picture(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4).startswith(_PICTURE_MAGIC)


def _bits(mode: str) -> int:
    return {"1": 1, "I": 32, "F": 32}.get(mode, 16 if mode.startswith("I;16") else 8)


def _read_picture(path: Path) -> Radiograph:
    """A PNG, JPEG or TIFF: 8 bits as they are, more stretched as DICOM is, colours as luminance."""
    from PIL import Image

    with Image.open(path) as picture:
        _check_size(picture.height, picture.width)
        header = Header(path, picture.height, picture.width, bits_stored=_bits(picture.mode))
        notes = [f"first of {picture.n_frames} pages"] if getattr(picture, "n_frames", 1) > 1 else []
        deep = header.bits_stored > 8
        pixels = _stretch(np.asarray(picture, np.float64)) if deep else np.array(picture.convert("L"))
    pixels.setflags(write=False)
    return Radiograph(header, pixels, tuple(notes))


def _dataset(path: Path, header_only: bool = False) -> Dataset:
    import pydicom
    from pydicom.errors import InvalidDicomError

    options: dict[str, Any] = {"stop_before_pixels": header_only}
    if header_only:
        options["specific_tags"] = list(_HEADER_TAGS)
    try:
        return pydicom.dcmread(path, **options)
    except InvalidDicomError:
        # Old files lack the preamble. Whatever else lacks it has no image attributes either.
        dataset = pydicom.dcmread(path, force=True, **options)
        if "Rows" not in dataset or "SOPClassUID" not in dataset:
            raise ValueError("is neither DICOM nor PNG, JPEG or TIFF") from None
        implicit = dataset.original_encoding[0]
        dataset.ensure_file_meta()
        dataset.file_meta.TransferSyntaxUID = (
            pydicom.uid.ImplicitVRLittleEndian if implicit else pydicom.uid.ExplicitVRLittleEndian
        )
        return dataset


def _header(path: Path, dataset: Dataset) -> Header:
    def text(name: str) -> str | None:
        value = dataset.get(name)
        return (str(value).strip() or None) if value is not None else None

    missing = [name for name in ("Rows", "Columns", "PhotometricInterpretation") if text(name) is None]
    if missing:
        raise ValueError(f"DICOM without {missing[0]}: it holds no image")
    return Header(
        path,
        height=int(dataset.Rows),
        width=int(dataset.Columns),
        study=text("StudyInstanceUID"),
        series=text("SeriesInstanceUID"),
        image=text("SOPInstanceUID"),
        photometric=str(dataset.PhotometricInterpretation),
        view=text("ViewPosition"),
        sex=text("PatientSex"),
        age=_years(text("PatientAge")),
        modality=text("Modality"),
        patient=text("PatientID"),
        bits_stored=int(dataset.get("BitsStored") or 8),
        transfer_syntax=str(dataset.file_meta.get("TransferSyntaxUID", "")) or None,
        frames=int(dataset.get("NumberOfFrames") or 1),
        manufacturer=text("Manufacturer"),
        body_part=text("BodyPartExamined"),
    )


def _years(age: str | None) -> int | None:
    """Completed years of a DICOM age string such as ``045Y`` or ``006M``."""
    found = re.fullmatch(r"(\d{1,3})([DWMY])?", age or "")
    return int(found[1]) // {"D": 365, "W": 52, "M": 12, "Y": 1, None: 1}[found[2]] if found else None


def _check_size(height: int, width: int) -> None:
    if height < 1 or width < 1:
        raise ValueError(f"declares an image of {height} rows and {width} columns")
    if height * width > MAX_PIXELS:
        raise ValueError(f"declares {height} x {width} pixels, more than the {MAX_PIXELS:,} that are allowed")


def _decode(dataset: Dataset, header: Header) -> tuple[NDArray[np.uint8], list[str]]:
    from pydicom.pixels import pixel_array
    from pydicom.uid import UID

    _check_size(header.height, header.width)
    if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise ValueError("has no pixel data")
    notes = [f"first of {header.frames} frames"] if header.frames > 1 else []
    colour = int(dataset.get("SamplesPerPixel") or 1) > 1
    try:
        stored = pixel_array(dataset, index=0, raw=not colour)
    except NotImplementedError:
        syntax = UID(header.transfer_syntax or "")
        raise ValueError(f"unsupported transfer syntax {syntax} ({syntax.name})") from None
    if colour:
        return _stretch(_luminance(stored)), notes
    if header.photometric == "PALETTE COLOR":
        from pydicom.pixels import apply_color_lut

        return _stretch(_luminance(apply_color_lut(stored, dataset))), notes
    return _grey(stored, dataset, header, notes), notes


def _luminance(colours: NDArray) -> NDArray[np.float64]:
    return colours[..., :3].astype(np.float64) @ np.array([0.299, 0.587, 0.114])


def _stretch(values: NDArray, ignore: NDArray[np.bool_] | None = None) -> NDArray[np.uint8]:
    """Least to greatest value onto 0..255, truncated; a constant image and ignored values become black."""
    counted = values if ignore is None else values[~ignore]
    counted = counted[np.isfinite(counted)]
    low, high = (float(counted.min()), float(counted.max())) if counted.size else (0.0, 0.0)
    scaled = np.nan_to_num((values - low) / ((high - low) or 1.0) * 255, posinf=255, neginf=0)
    pixels = np.clip(scaled, 0, 255).astype(np.uint8)
    if ignore is not None:
        pixels[ignore] = 0
    return pixels


def _grey(stored: NDArray, dataset: Dataset, header: Header, notes: list[str]) -> NDArray[np.uint8]:
    """The grey mapping of single-sample pixels."""
    if stored.dtype.kind == "f":
        return _stretch(_display_values(stored, dataset, header, notes))
    stored = _stored_bits(stored, dataset)
    low, high = int(stored.min()), int(stored.max())
    if low == high:
        notes.append("constant image")
    if high - low > 2**16:
        return _stretch(_display_values(stored, dataset, header, notes))
    possible = np.arange(low, high + 1)
    shown = _display_values(possible, dataset, header, notes)
    ignore = _padding(possible, dataset)
    steps = np.diff(shown)
    if ignore.any() or not ((steps >= 0).all() or (steps <= 0).all()):
        # The extremes of what can occur are then not those of what does.
        occurs = np.bincount((stored - low).ravel().astype(np.int64), minlength=len(possible)) > 0
        table = _stretch(shown, ignore | ~occurs)
    else:
        table = _stretch(shown)
    return _look_up(table, stored, low)


def _look_up(table: NDArray[np.uint8], stored: NDArray, low: int) -> NDArray[np.uint8]:
    """``table[stored - low]`` without a subtraction per pixel: 16-bit values index a table that wraps."""
    if stored.dtype.itemsize > 2:
        return np.take(table, stored - low)
    size = 256**stored.dtype.itemsize
    whole = np.zeros(size, np.uint8)
    whole[np.arange(low, low + len(table)) % size] = table
    return np.take(whole, np.ascontiguousarray(stored).view(f"u{stored.dtype.itemsize}"), mode="wrap")


def _stored_bits(stored: NDArray, dataset: Dataset) -> NDArray:
    """Only the stored bits, sign-extended: overlays may live in the bits above, other data in those below."""
    bits, allocated = int(dataset.BitsStored), stored.dtype.itemsize * 8
    shift = max(0, int(dataset.get("HighBit", bits - 1)) + 1 - bits)
    if not 1 <= bits <= allocated or shift + bits > allocated:
        raise ValueError(f"contradictory bits: {bits} stored, high bit {dataset.HighBit}, {allocated} allocated")
    above = allocated - bits - shift
    if stored.dtype.kind == "u" and not shift and not int(stored.max()) >> bits:
        return stored  # as in most files: nothing to remove, and reading is cheaper than writing
    return (stored << above) >> (above + shift) if above or shift else stored


def _display_values(values: NDArray, dataset: Dataset, header: Header, notes: list[str]) -> NDArray:
    """Modality LUT, VOI LUT or window, inversion: by pydicom, on as many values as it is given."""
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    shown = apply_modality_lut(values, dataset)
    window = _window_fault(dataset)
    if window:
        notes.append(f"window ignored: {window}")
    elif "VOILUTSequence" in dataset or "WindowCenter" in dataset:
        if "VOILUTSequence" in dataset and shown.dtype.kind == "f":
            shown = shown.round().astype(np.int64)
        shown = apply_voi_lut(shown, dataset)
    shown = np.asarray(shown, np.float64)
    return -shown if header.photometric == "MONOCHROME1" else shown


def _window_fault(dataset: Dataset) -> str | None:
    """Why the first window cannot be applied, or None where it can or none is given."""
    from pydicom.multival import MultiValue

    if "VOILUTSequence" in dataset or "WindowCenter" not in dataset:
        return None
    pair = []
    for name in ("WindowCenter", "WindowWidth"):
        value = dataset.get(name)
        value = value[0] if isinstance(value, MultiValue) and value else value
        try:
            pair.append(float(value))
        except (TypeError, ValueError):
            return f"{name} is {value!r}"
    least = 1 if dataset.get("VOILUTFunction", "LINEAR") == "LINEAR" else np.nextafter(0, 1)
    if not np.isfinite(pair).all() or pair[1] < least:
        return f"centre {pair[0]:g}, width {pair[1]:g}"
    return None


def _padding(values: NDArray, dataset: Dataset) -> NDArray[np.bool_]:
    """Which stored values stand for 'no image here'."""
    first = dataset.get("PixelPaddingValue")
    if first is None or first == "":
        return np.zeros(len(values), bool)
    last = dataset.get("PixelPaddingRangeLimit", first)
    low, high = sorted((int(first), int(last)))
    return (values >= low) & (values <= high)
