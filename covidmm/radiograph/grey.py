"""The grey mapping from stored DICOM values to 8 bits.

Modality LUT, VOI LUT or window, MONOCHROME1 inverted, stretched between the least and the greatest value to
0..255 and truncated (report, section 2). It is computed once per *possible* stored value, of which there are at
most 65,536, and looked up per pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from covidmm.radiograph.display import fitted_display
from covidmm.radiograph.stored_bits import Layout, is_padding, padding_range

if TYPE_CHECKING:
    from pydicom import Dataset

#: Pixels whose display values are worked out at a time where there is no table: 8 MB of float64.
_PART = 2**20
#: Rows and columns, evenly spread, by whose pixels a display mapping is judged. Chosen here.
_SAMPLE = 128
_PADDING_IS_ALL = "padding ignored: it leaves next to nothing of the image"


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


def stretch_parts(
    stored: NDArray, show: Callable[[NDArray], NDArray] = np.asarray, padding: tuple[float, float] | None = None
) -> NDArray[np.uint8]:
    """:func:`stretch` of what ``show`` makes of stored values, a part at a time, for values too many for a table.

    Args:
        stored: (H, W) or (H, W, samples).
        show: values (N, 1) or (N, 1, samples) to float (N, 1), each pixel by itself.
        padding: least and greatest stored value that stand for no image: they do not count, and become black.

    Raises:
        ValueError: not one finite value.
    """
    flat = stored.reshape(-1, 1, *stored.shape[2:])
    parts = [flat[start : start + _PART] for start in range(0, len(flat), _PART)]
    low, high = np.inf, -np.inf
    for part in parts:
        shown = np.asarray(show(part), np.float64)
        counted = np.isfinite(shown) if padding is None else np.isfinite(shown) & ~is_padding(part, padding)
        low = min(low, float(np.min(shown, initial=np.inf, where=counted)))
        high = max(high, float(np.max(shown, initial=-np.inf, where=counted)))
    if low > high:
        raise ValueError("not one of its pixels is a finite number")
    pixels = np.empty((len(flat), 1), np.uint8)
    for start, part in zip(range(0, len(flat), _PART), parts, strict=True):
        grey = _scaled(np.asarray(show(part), np.float64), low, high)
        pixels[start : start + _PART] = grey if padding is None else np.where(is_padding(part, padding), 0, grey)
    return pixels.reshape(stored.shape[:2])


def _scaled(values: NDArray, low: float, high: float) -> NDArray[np.uint8]:
    scaled = np.nan_to_num((values - low) / ((high - low) or 1.0) * 255, posinf=255, neginf=0)
    return np.clip(scaled, 0, 255).astype(np.uint8)


def grey_of_stored(
    stored: NDArray, dataset: Dataset, notes: list[str], layout: Layout | None = None
) -> NDArray[np.uint8]:
    """Map the stored values of a one-sample DICOM image to 0..255.

    Args:
        stored: (H, W) stored values, without other bits of their cells, in the machine's byte order.
        dataset: its rescale, windows, tables, padding and photometric interpretation.
        notes: what a reader should know is appended.
        layout: of the values, where it is not the one that the dataset declares.

    Raises:
        ValueError: bits that contradict each other, or not one finite value.
    """
    if layout is None:
        layout = Layout.of_dataset(dataset, stored.dtype.itemsize * 8, notes)
    padding = padding_range(dataset, layout, notes)
    if stored.dtype.kind == "f":
        return _of_many(stored, dataset, layout, padding, notes)
    low, high = int(stored.min()), int(stored.max())
    if low == high:
        notes.append("constant image")
        return np.zeros(stored.shape, np.uint8)
    if high - low > 2**16:
        return _of_many(stored, dataset, layout, padding, notes)
    return _of_few(stored, low, high, dataset, layout, padding, notes)


def _of_few(
    stored: NDArray,
    low: int,
    high: int,
    dataset: Dataset,
    layout: Layout,
    padding: tuple[float, float] | None,
    notes: list[str],
) -> NDArray[np.uint8]:
    """By a table of what could occur."""
    possible = np.arange(low, high + 1)
    ignore, occurs = is_padding(possible, padding), None
    if ignore.any():
        occurs = _occurring(stored, low, len(possible))
        if np.count_nonzero(occurs & ~ignore) < 2:
            notes.append(_PADDING_IS_ALL)
            ignore[:] = False
    counted = possible[~ignore & occurs] if occurs is not None else possible
    sample = _sampled(stored)
    sample = sample[~ignore[_places(sample, low)]] if ignore.any() else sample
    shown = fitted_display(dataset, layout, np.append(sample, [counted[0], counted[-1]]), notes)(possible)
    steps = np.diff(shown)
    if ignore.any() or not ((steps >= 0).all() or (steps <= 0).all()):
        # The extremes of what can occur are then not those of what does.
        occurs = _occurring(stored, low, len(possible)) if occurs is None else occurs
        table = stretch(shown, ignore | ~occurs)
    else:
        table = stretch(shown)
    return _look_up(table, stored, low)


def _of_many(
    stored: NDArray, dataset: Dataset, layout: Layout, padding: tuple[float, float] | None, notes: list[str]
) -> NDArray[np.uint8]:
    """Pixel by pixel, for floating-point values and those too far apart for a table."""
    low, high = _extremes(stored, padding)
    if padding is not None and not low < high:
        notes.append(_PADDING_IS_ALL)
        padding = None
        low, high = _extremes(stored, None)
    if low > high:
        raise ValueError("not one of its pixels is a finite number")
    sample = _sampled(stored)
    sample = sample[np.isfinite(sample) & ~is_padding(sample, padding)]
    show = fitted_display(dataset, layout, np.append(sample.astype(np.float64), [low, high]), notes)
    return stretch_parts(stored, show, padding)


def _extremes(stored: NDArray, padding: tuple[float, float] | None) -> tuple[float, float]:
    """The least and the greatest finite value without padding; inf and -inf where there is none."""
    low, high = np.inf, -np.inf
    flat = stored.reshape(-1)
    for start in range(0, len(flat), _PART):
        part = flat[start : start + _PART]
        part = part[np.isfinite(part) & ~is_padding(part, padding)]
        if part.size:
            low, high = min(low, float(part.min())), max(high, float(part.max()))
    return low, high


def _sampled(stored: NDArray) -> NDArray:
    """(N,) values of evenly spread rows and columns."""
    rows, columns = (max(1, side // _SAMPLE) for side in stored.shape)
    return stored[::rows, ::columns].ravel()


def _places(stored: NDArray, low: int) -> NDArray[np.int64]:
    """Indices of values in a table that begins with ``low``."""
    return stored.astype(np.int64) - low


def _occurring(stored: NDArray, low: int, count: int) -> NDArray[np.bool_]:
    """Which of ``count`` values from ``low`` on occur."""
    occurs = np.zeros(count, bool)
    flat = stored.reshape(-1)
    for start in range(0, len(flat), _PART):
        occurs[_places(flat[start : start + _PART], low)] = True
    return occurs


def _look_up(table: NDArray[np.uint8], stored: NDArray, low: int) -> NDArray[np.uint8]:
    """``table[stored - low]`` without a subtraction per pixel: 16-bit values index a table that wraps."""
    if stored.dtype.itemsize > 2:
        return np.take(table, stored - low)
    size = 256**stored.dtype.itemsize
    whole = np.zeros(size, np.uint8)
    whole[np.arange(low, low + len(table)) % size] = table
    return cv2.LUT(np.ascontiguousarray(stored).view(f"u{stored.dtype.itemsize}"), whole)
