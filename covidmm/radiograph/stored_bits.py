"""How a stored value lies in its cell of pixel data, and which stored values stand for no image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pydicom import Dataset

#: Padding is named by one pair of elements per kind of pixel data.
_PADDING = {
    "PixelData": ("PixelPaddingValue", "PixelPaddingRangeLimit"),
    "FloatPixelData": ("FloatPixelPaddingValue", "FloatPixelPaddingRangeLimit"),
    "DoubleFloatPixelData": ("DoubleFloatPixelPaddingValue", "DoubleFloatPixelPaddingRangeLimit"),
}


class Layout(NamedTuple):
    """Stored bits of a cell: how many, how many others lie below them, and whether they are signed (PS3.5, 8.1.1)."""

    bits: int
    below: int
    signed: bool

    @classmethod
    def of_dataset(cls, dataset: Dataset, allocated: int, notes: list[str]) -> Layout:
        """The layout that a header declares for cells of ``allocated`` bits.

        Args:
            dataset: its bits stored, high bit and pixel representation.
            allocated: bits of a cell.
            notes: what a reader should know is appended.

        Raises:
            ValueError: the bits lie outside the cell.
        """
        bits = int(dataset.BitsStored)
        high = bits - 1 if dataset.get("HighBit") in (None, "") else int(dataset.HighBit)
        if high < bits - 1:
            notes.append(f"high bit {high} ignored: {bits} bits are stored")
        below = max(0, high + 1 - bits)
        if not 1 <= bits <= allocated or below + bits > allocated:
            raise ValueError(f"contradictory bits: {bits} stored, high bit {high}, {allocated} allocated")
        return cls(bits, below, bool(dataset.PixelRepresentation))

    def value(self, cell: int) -> int:
        """The stored value of one cell, whatever sign the cell was given with."""
        value = (cell >> self.below) & ((1 << self.bits) - 1)
        return value - (1 << self.bits) if self.signed and value >> (self.bits - 1) else value

    @property
    def limits(self) -> tuple[int, int]:
        """The least and the greatest stored value."""
        return (-(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1) if self.signed else (0, (1 << self.bits) - 1)


def stored_values(cells: NDArray, layout: Layout) -> NDArray:
    """Only the stored bits, sign-extended, in the machine's byte order; floating-point cells as they are.

    Overlays may live in the bits above, other data in those below.

    Args:
        cells: (H, W) or (H, W, samples) as a decoder returned them, of the layout's sign.
        layout: where the stored bits are.
    """
    cells = cells.astype(cells.dtype.newbyteorder("="), copy=False)  # big-endian files
    if cells.dtype.kind == "f":
        return cells
    above = cells.dtype.itemsize * 8 - layout.bits - layout.below
    if cells.dtype.kind == "u" and not layout.below and not int(cells.max()) >> layout.bits:
        return cells  # as in most files: nothing to remove, and reading is cheaper than writing
    return (cells << above) >> (above + layout.below) if above or layout.below else cells


def padding_range(dataset: Dataset, layout: Layout, notes: list[str]) -> tuple[float, float] | None:
    """The least and the greatest stored value that stand for 'no image here'; None without any.

    A number that no stored value can have was written with the other sign, or with all bits of its cell.

    Args:
        dataset: its padding value and range limit.
        layout: of its stored values.
        notes: a padding that is no number is left out, which is appended.
    """
    kind = next((name for name in _PADDING if name in dataset), "PixelData")
    value, limit = (dataset.get(name) for name in _PADDING[kind])
    if value in (None, ""):
        return None
    ends: list[Any] = []
    for given in (value, value if limit in (None, "") else limit):
        if not isinstance(given, int | float):
            notes.append(f"padding ignored: it is {given!r:.50}")
            return None
        beyond = kind == "PixelData" and not layout.limits[0] <= given <= layout.limits[1]
        ends.append(layout.value(int(given)) if beyond else given)
    return min(ends), max(ends)


def is_padding(values: NDArray, padding: tuple[float, float] | None) -> NDArray[np.bool_]:
    """Which values lie in a range of padding."""
    if padding is None:
        return np.zeros(values.shape, bool)
    return (values >= padding[0]) & (values <= padding[1])
