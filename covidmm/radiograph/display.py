"""From stored to display values: modality LUT or rescale, then VOI LUT or window (PS3.3, C.11.1 and C.11.2).

What a header asks for is left out, with a note, where it cannot be meant: it costs contrast, never the image.
"""

from __future__ import annotations

from collections.abc import Callable, MutableSequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from covidmm.radiograph.stored_bits import Layout

if TYPE_CHECKING:
    from pydicom import Dataset

Show: TypeAlias = Callable[[NDArray], NDArray[np.float64]]

#: A step that leaves less than this share of the pixels outside the most common grey, of those that it found there,
#: leaves next to nothing. Chosen here.
LEAST_SHARE = 1 / 50
#: A picture of so few grey values is a silhouette. Chosen here.
SILHOUETTE = 2


@dataclass(frozen=True)
class Table:
    """A lookup table: its entries, and the input of the first one."""

    first: int
    entries: NDArray[np.float64]

    def __call__(self, values: NDArray) -> NDArray[np.float64]:
        """Entries of values, rounded; of those outside the table its first or last; of NaN NaN."""
        places = np.clip(np.rint(np.asarray(values, np.float64)) - self.first, 0, len(self.entries) - 1)
        shown = self.entries[np.nan_to_num(places).astype(np.intp)]
        return np.where(np.isnan(places), np.nan, shown)


@dataclass(frozen=True)
class Window:
    """A window: its centre, width and function, and the values that it makes of its lower and upper end."""

    centre: float
    width: float
    function: str
    ends: tuple[float, float]

    def __call__(self, values: NDArray) -> NDArray[np.float64]:
        """Equations of PS3.3, C.11.2.1.2.1 and C.11.2.1.3: the output rises with the input."""
        low, high = self.ends
        if self.function == "SIGMOID":
            with np.errstate(over="ignore"):
                return (high - low) / (1 + np.exp(-4 * (values - self.centre) / self.width)) + low
        linear = self.function == "LINEAR"
        centre, width = (self.centre - 0.5, self.width - 1) if linear else (self.centre, self.width)
        with np.errstate(divide="ignore", invalid="ignore"):
            shown = ((values - centre) / width + 0.5) * (high - low) + low
        shown = np.where(values <= centre - width / 2, low, shown)
        return np.where(values > centre + width / 2, high, shown)


def fitted_display(dataset: Dataset, layout: Layout, sample: NDArray, notes: list[str]) -> Show:
    """What a header asks for of its stored values, as far as it can be meant; negated for MONOCHROME1.

    Args:
        dataset: rescale, windows, tables, photometric interpretation.
        layout: of its stored values.
        sample: (N,) stored values of the image, its extremes among them, without padding.
        notes: what is left out is appended.
    """
    steps: list[Show] = []
    before = values = np.asarray(sample, np.float64)
    fault, step = _modality(dataset, values, notes)
    if step is not None:
        shown = step(values)
        fault = _loss(before, shown)
        if not fault:
            steps, values = [step], shown
    if fault:
        notes.append(f"rescale, window and LUTs ignored: {fault}")
    else:
        name, fault, step = _contrast(dataset, layout, values)
        fault = fault or (step and _loss(before, step(values)))
        if fault:
            notes.append(f"{name} ignored: {fault}")
        elif step is not None:
            steps.append(step)
    inverted = _inverted(dataset, notes)

    def show(stored: NDArray) -> NDArray[np.float64]:
        shown = np.asarray(stored, np.float64)
        for one in steps:
            shown = one(shown)
        return -shown if inverted else shown

    return show


def _inverted(dataset: Dataset, notes: list[str]) -> bool:
    """Whether small values are bright: the photometric interpretation decides."""
    photometric = dataset.PhotometricInterpretation
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        notes.append(f"photometric interpretation {photometric!r:.50} of one sample taken as MONOCHROME2")
    if dataset.get("PresentationLUTSequence"):
        notes.append("Presentation LUT ignored")
    shape = dataset.get("PresentationLUTShape") or None
    meant = "INVERSE" if photometric == "MONOCHROME1" else "IDENTITY"
    if shape not in (None, meant):
        notes.append(f"Presentation LUT Shape {shape!r:.50} ignored: the image is {photometric}")
    return bool(photometric == "MONOCHROME1")


def _loss(before: NDArray, after: NDArray) -> str | None:
    """Why a step cannot be meant, by the pictures of 8 bits without and with it, or None."""
    levels, kept = _contents(before)
    if levels < 2:
        return None
    levels_after, kept_after = _contents(after)
    few = levels_after == 1 or levels_after <= SILHOUETTE < levels
    if not few and kept_after >= kept * LEAST_SHARE:
        return None
    return f"it leaves next to nothing of the image, {levels_after} of {levels} grey values"


def _contents(values: NDArray) -> tuple[int, float]:
    """Of values stretched to 8 bits: how many differ, and the share of those that do not have the most common one."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0, 0.0
    low, high = finite.min(), finite.max()
    greys = np.bincount(((finite - low) / ((high - low) or 1.0) * 255).astype(np.intp), minlength=256)
    return int(np.count_nonzero(greys)), 1 - int(greys.max()) / finite.size


def _modality(dataset: Dataset, values: NDArray, notes: list[str]) -> tuple[str | None, Show | None]:
    """Why the modality LUT or the rescale cannot be applied, or None; and the step, if there is one.

    Half a rescale is none, as pydicom has it: windows are then meant for the stored values.
    """
    if dataset.get("ModalityLUTSequence"):
        fault, table = _table(dataset, dataset.ModalityLUTSequence[0], values)
        return fault, table
    given = {name: dataset.get(name) for name in ("RescaleSlope", "RescaleIntercept")}
    absent = [name for name, value in given.items() if value in (None, "")]
    if absent:
        if len(absent) == 1:
            notes.append(f"rescale ignored: there is no {absent[0]}")
        return None, None
    numbers = {name: _number(value) for name, value in given.items()}
    for name, number in numbers.items():
        if number is None or not np.isfinite(number) or (name == "RescaleSlope" and not number):
            return f"{name} is {given[name]!r:.50}", None
    slope, intercept = (float(number or 0) for number in numbers.values())
    return None, lambda stored: stored * slope + intercept


def _contrast(dataset: Dataset, layout: Layout, values: NDArray) -> tuple[str, str | None, Show | None]:
    """The name of the VOI LUT or else the first window, why it cannot be applied, and the step, if there is one."""
    if dataset.get("VOILUTSequence"):
        fault, table = _table(dataset, dataset.VOILUTSequence[0], values)
        return "VOI LUT", fault, table
    pair = [_first(dataset.get(name)) for name in ("WindowCenter", "WindowWidth")]
    if all(value in (None, "") for value in pair):
        return "window", None, None
    fault, window = _window(dataset, layout, pair, values)
    return "window", fault, window


def _window(dataset: Dataset, layout: Layout, pair: list[Any], values: NDArray) -> tuple[str | None, Window | None]:
    numbers = [_number(value) for value in pair]
    for name, value, number in zip(("WindowCenter", "WindowWidth"), pair, numbers, strict=True):
        if number is None:
            return f"{name} is {value!r:.50}", None
    given = dataset.get("VOILUTFunction") or "LINEAR"
    function = given.strip().upper() if isinstance(given, str) else None
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        return f"VOILUTFunction is {given!r:.50}", None
    centre, width = (float(number or 0) for number in numbers)
    if not np.isfinite((centre, width)).all() or width <= 0 or (function == "LINEAR" and width < 1):
        return f"centre {centre:g}, width {width:g}", None
    if centre + width / 2 <= values.min() or centre - width / 2 >= values.max():
        return f"centre {centre:g}, width {width:g}, but the values are {values.min():g} to {values.max():g}", None
    return None, Window(centre, width, function, _output_range(dataset, layout))


def _output_range(dataset: Dataset, layout: Layout) -> tuple[float, float]:
    """What the ends of a window become: the extremes that the values could have, so that units are kept."""
    if dataset.get("ModalityLUTSequence"):
        return 0.0, 2.0 ** (dataset.ModalityLUTSequence[0].LUTDescriptor[2] & 0xFF) - 1
    slope, intercept = (_number(dataset.get(name)) for name in ("RescaleSlope", "RescaleIntercept"))
    if slope is None or intercept is None:
        slope, intercept = 1.0, 0.0
    low, high = sorted(limit * slope + intercept for limit in layout.limits)
    return low, high


def _table(dataset: Dataset, item: Dataset, values: NDArray) -> tuple[str | None, Table | None]:
    """Why a lookup table cannot be applied to values, or None; and the table (PS3.3, C.11.1.1 and C.11.2.1.1)."""
    descriptor, data = item.get("LUTDescriptor"), item.get("LUTData")
    if isinstance(descriptor, str | bytes | int | None) or len(descriptor) != 3:
        return f"LUTDescriptor is {descriptor!r:.50}", None
    # the elements may have been read as signed, as those of signed pixels are
    count, first, bits = int(descriptor[0]) & 0xFFFF or 2**16, int(descriptor[1]), int(descriptor[2])
    if not 8 <= bits <= 16:
        return f"{bits} bits per entry", None
    if data is None:
        entries = np.zeros(0, np.uint16)
    elif isinstance(data, bytes):
        packed = bits == 8 and len(data) in (count, count + count % 2)
        order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
        entries = np.frombuffer(data, np.uint8 if packed else f"{order}u2", len(data) // (1 if packed else 2))
    else:
        entries = np.atleast_1d(data).astype(np.int64) & 0xFFFF
    if len(entries) < count:
        return f"{len(entries)} entries, its descriptor says {count}", None
    return None, Table(_signed_first(first, count, values), entries[:count].astype(np.float64))


def _signed_first(first: int, count: int, values: NDArray) -> int:
    """The input of a table's first entry: with the other sign where only so the table meets the values."""
    other = first - 2**16 if first >= 2**15 else first + 2**16 if first < 0 else first
    low, high = values.min(), values.max()
    meets = [start <= high and start + count > low for start in (first, other)]
    return other if meets == [False, True] else first


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, MutableSequence) and value else value


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
