"""The grey mapping from stored DICOM values to 8 bits.

Modality LUT, VOI LUT or window, MONOCHROME1 inverted, stretched between the least and the greatest value to
0..255 and truncated (report, section 2). It is computed once per *possible* stored value, of which there are at
most 65,536, and looked up per pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Container, MutableSequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pydicom import Dataset

#: Pixels whose display values are worked out at a time where there is no table: 8 MB of float64.
_PART = 2**20


def luminance(colours: NDArray) -> NDArray[np.float64]:
    """Grey of (H, W, 3) colours by ITU-R BT.601."""
    return colours[..., :3].astype(np.float64) @ np.array([0.299, 0.587, 0.114])


def stretch(values: NDArray, ignore: NDArray[np.bool_] | None = None) -> NDArray[np.uint8]:
    """Least to greatest value onto 0..255, truncated; a constant image and ignored values become black."""
    counted = values if ignore is None else values[~ignore]
    counted = counted[np.isfinite(counted)]
    pixels = _scaled(values, *((float(counted.min()), float(counted.max())) if counted.size else (0.0, 0.0)))
    if ignore is not None:
        pixels[ignore] = 0
    return pixels


def stretch_parts(stored: NDArray, show: Callable[[NDArray], NDArray] = np.asarray) -> NDArray[np.uint8]:
    """:func:`stretch` of what ``show`` makes of stored values, a part at a time, for values too many for a table.

    Args:
        stored: (H, W) or (H, W, samples).
        show: values (N, 1) or (N, 1, samples) to float (N, 1), each pixel by itself.

    Raises:
        ValueError: not one finite value.
    """
    flat = stored.reshape(-1, 1, *stored.shape[2:])
    parts = [slice(start, start + _PART) for start in range(0, len(flat), _PART)]
    low, high = np.inf, -np.inf
    for part in parts:
        shown = np.asarray(show(flat[part]), np.float64)
        low = min(low, float(np.min(shown, initial=np.inf, where=np.isfinite(shown))))
        high = max(high, float(np.max(shown, initial=-np.inf, where=np.isfinite(shown))))
    if low > high:
        raise ValueError("not one of its pixels is a finite number")
    pixels = np.empty(stored.shape[:2], np.uint8)
    for part in parts:
        pixels.reshape(-1, 1)[part] = _scaled(np.asarray(show(flat[part]), np.float64), low, high)
    return pixels


def _scaled(values: NDArray, low: float, high: float) -> NDArray[np.uint8]:
    scaled = np.nan_to_num((values - low) / ((high - low) or 1.0) * 255, posinf=255, neginf=0)
    return np.clip(scaled, 0, 255).astype(np.uint8)


def grey_of_stored(stored: NDArray, dataset: Dataset, notes: list[str]) -> NDArray[np.uint8]:
    """Map the stored values of a one-sample DICOM image to 0..255.

    Args:
        stored: (H, W) as the decoder returned them.
        dataset: its bits, rescale, windows, padding and photometric interpretation.
        notes: what a reader should know is appended.

    Raises:
        ValueError: bits that contradict each other.
    """
    stored = stored.astype(stored.dtype.newbyteorder("="), copy=False)  # big-endian files
    display = _display(dataset, notes)
    if stored.dtype.kind == "f":
        return stretch_parts(stored, display)
    stored = _stored_bits(stored, dataset)
    low, high = int(stored.min()), int(stored.max())
    if low == high:
        notes.append("constant image")
    if high - low > 2**16:
        return stretch_parts(stored, display)
    possible = np.arange(low, high + 1)
    shown = display(possible)
    if low < high and shown.min() == shown.max():
        notes.append("its display mapping leaves one grey value")
    ignore = _padding(possible, dataset)
    steps = np.diff(shown)
    if ignore.any() or not ((steps >= 0).all() or (steps <= 0).all()):
        # The extremes of what can occur are then not those of what does.
        occurs = np.bincount((stored.astype(np.int64) - low).ravel(), minlength=len(possible)) > 0
        table = stretch(shown, ignore | ~occurs)
    else:
        table = stretch(shown)
    return _look_up(table, stored, low)


def _look_up(table: NDArray[np.uint8], stored: NDArray, low: int) -> NDArray[np.uint8]:
    """``table[stored - low]`` without a subtraction per pixel: 16-bit values index a table that wraps."""
    if stored.dtype.itemsize > 2:
        return np.take(table, stored - low)
    size = 256**stored.dtype.itemsize
    whole = np.zeros(size, np.uint8)
    whole[np.arange(low, low + len(table)) % size] = table
    return cv2.LUT(np.ascontiguousarray(stored).view(f"u{stored.dtype.itemsize}"), whole)


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


def _display(dataset: Dataset, notes: list[str]) -> Callable[[NDArray], NDArray[np.float64]]:
    """Modality LUT, VOI LUT or window, inversion, by pydicom: stored values to display values of the same shape.

    A mapping that contradicts itself is left out, which is noted: it costs contrast, not the image.
    """
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    modality = _modality_fault(dataset)
    table = bool(dataset.get("VOILUTSequence"))
    if modality:
        notes.append(f"rescale, window and LUTs ignored: {modality}")
    fault = _lut_fault(dataset.VOILUTSequence[0]) if table else _window_fault(dataset)
    if fault and not modality:
        notes.append(f"{'VOI LUT' if table else 'window'} ignored: {fault}")
    contrast = not modality and not fault and (table or "WindowCenter" in dataset)
    inverted = dataset.PhotometricInterpretation == "MONOCHROME1"

    def show(values: NDArray) -> NDArray[np.float64]:
        shown = values if modality else apply_modality_lut(values, dataset)
        if contrast:
            # a table's entries are chosen by whole numbers
            shown = apply_voi_lut(
                shown.round().astype(np.int64) if table and shown.dtype.kind == "f" else shown, dataset
            )
        shown = np.asarray(shown, np.float64)
        return -shown if inverted else shown

    return show


def _modality_fault(dataset: Dataset) -> str | None:
    """Why the modality LUT or the rescale cannot be applied, or None."""
    if dataset.get("ModalityLUTSequence"):
        return _lut_fault(dataset.ModalityLUTSequence[0], (8, 16))
    if "RescaleSlope" not in dataset or "RescaleIntercept" not in dataset:
        return None  # as pydicom has it
    for name in ("RescaleSlope", "RescaleIntercept"):
        value = dataset[name].value
        number = _number(value)
        if number is None or not np.isfinite(number) or (name == "RescaleSlope" and not number):
            return f"{name} is {value!r:.50}"
    return None


def _lut_fault(item: Dataset, depths: Container[int] = (8, *range(10, 17))) -> str | None:
    """Why a lookup table cannot be applied, or None (PS3.3 C.11.1.1 and C.11.2.1.1)."""
    descriptor, data = item.get("LUTDescriptor"), item.get("LUTData")
    if isinstance(descriptor, str | bytes | int | None) or len(descriptor) != 3:
        return f"LUTDescriptor is {descriptor!r:.50}"
    entries, _, bits = descriptor
    entries = entries or 2**16
    count = 0 if data is None else len(data) // 2 if isinstance(data, bytes) else np.size(data)
    if count < entries:
        return f"{count} entries, its descriptor says {entries}"
    return None if bits in depths else f"{bits} bits per entry"


def _window_fault(dataset: Dataset) -> str | None:
    """Why the first window cannot be applied, or None where it can or none is given."""
    if "WindowCenter" not in dataset:
        return None
    pair = []
    for name in ("WindowCenter", "WindowWidth"):
        value = dataset.get(name)
        value = value[0] if isinstance(value, MutableSequence) and value else value
        number = _number(value)
        if number is None:
            return f"{name} is {value!r:.50}"
        pair.append(number)
    least = 1 if dataset.get("VOILUTFunction", "LINEAR") == "LINEAR" else np.nextafter(0, 1)
    if not np.isfinite(pair).all() or pair[1] < least:
        return f"centre {pair[0]:g}, width {pair[1]:g}"
    return None


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _padding(values: NDArray, dataset: Dataset) -> NDArray[np.bool_]:
    """Which stored values stand for 'no image here'."""
    first = dataset.get("PixelPaddingValue")
    if first is None or first == "":
        return np.zeros(len(values), bool)
    last = dataset.get("PixelPaddingRangeLimit", first)
    low, high = sorted((int(first), int(last)))
    return (values >= low) & (values <= high)
