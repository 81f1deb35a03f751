"""The grey mapping from stored DICOM values to 8 bits.

Modality LUT, VOI LUT or window, MONOCHROME1 inverted, stretched between the least and the greatest value to
0..255 and truncated (system-spec section 2). It is worked out once per *possible* stored value, of which there
are at most 65,536, and looked up per pixel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pydicom import Dataset


def luminance(colours: NDArray) -> NDArray[np.float64]:
    """Grey of (H, W, 3) colours by ITU-R BT.601."""
    return colours[..., :3].astype(np.float64) @ np.array([0.299, 0.587, 0.114])


def stretch(values: NDArray, ignore: NDArray[np.bool_] | None = None) -> NDArray[np.uint8]:
    """Least to greatest value onto 0..255, truncated; a constant image and ignored values become black."""
    counted = values if ignore is None else values[~ignore]
    counted = counted[np.isfinite(counted)]
    low, high = (float(counted.min()), float(counted.max())) if counted.size else (0.0, 0.0)
    scaled = np.nan_to_num((values - low) / ((high - low) or 1.0) * 255, posinf=255, neginf=0)
    pixels = np.clip(scaled, 0, 255).astype(np.uint8)
    if ignore is not None:
        pixels[ignore] = 0
    return pixels


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
    if stored.dtype.kind == "f":
        return stretch(_display_values(stored, dataset, notes))
    stored = _stored_bits(stored, dataset)
    low, high = int(stored.min()), int(stored.max())
    if low == high:
        notes.append("constant image")
    if high - low > 2**16:
        return stretch(_display_values(stored, dataset, notes))
    possible = np.arange(low, high + 1)
    shown = _display_values(possible, dataset, notes)
    ignore = _padding(possible, dataset)
    steps = np.diff(shown)
    if ignore.any() or not ((steps >= 0).all() or (steps <= 0).all()):
        # The extremes of what can occur are then not those of what does.
        occurs = np.bincount((stored - low).ravel().astype(np.int64), minlength=len(possible)) > 0
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


def _display_values(values: NDArray, dataset: Dataset, notes: list[str]) -> NDArray:
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
    return -shown if dataset.PhotometricInterpretation == "MONOCHROME1" else shown


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
