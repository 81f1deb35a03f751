"""From a DICOM object to its first frame's stored values, and on to grey.

A compressed frame declares bits, sign and samples of its own. Where they contradict the DICOM attributes, the frame's
are taken, with a note that names both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from covidmm.radiograph.grey import grey_of_stored, luminance, stretch_parts
from covidmm.radiograph.header import Header
from covidmm.radiograph.image import require_pixels
from covidmm.radiograph.stored_bits import Layout, stored_values

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.uid import UID

    from covidmm.radiograph.codecs import Codestream

#: The DICOM attributes are right where with them neighbours differ so many times less. Chosen here.
_ROUGHER = 2
_SIGNS = {True: "signed values", False: "unsigned values"}


def grey_of_dataset(dataset: Dataset, header: Header) -> tuple[NDArray[np.uint8], list[str]]:
    """The first frame as (H, W) grey, and notes of what was left out or changed.

    Raises:
        ValueError: it holds no image that can be decoded.
    """
    samples = int(dataset.get("SamplesPerPixel") or 1)
    require_pixels(header.height, header.width, samples)
    if not any(dataset.get(name) for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise ValueError("has no pixel data")
    notes = [f"first of {header.frames} frames"] if header.frames > 1 else []
    stored, layout = _stored(dataset, header, samples, notes)
    if stored.ndim > 2:
        return stretch_parts(stored, luminance), notes
    if header.photometric == "PALETTE COLOR":
        return stretch_parts(stored, _palette(dataset)), notes
    return grey_of_stored(stored, dataset, notes, layout), notes


def _palette(dataset: Dataset) -> Callable[[NDArray], NDArray]:
    from pydicom.pixels import apply_color_lut

    def show(part: NDArray) -> NDArray:
        try:
            return luminance(apply_color_lut(part, dataset))
        except Exception as error:  # pydicom raises anything
            raise ValueError(f"its palette cannot be applied ({error})") from error

    return show


def _stored(dataset: Dataset, header: Header, samples: int, notes: list[str]) -> tuple[NDArray, Layout]:
    """The first frame's stored values, (H, W) or RGB, and how they lay in their cells."""
    from pydicom.uid import UID

    from covidmm.radiograph.codecs import DECODERS, needs_codec, read_codestream

    syntax = UID(header.transfer_syntax or "")
    if syntax not in DECODERS:
        raise ValueError(f"unsupported transfer syntax {syntax} ({syntax.name})")
    stream = None
    if needs_codec(syntax):
        from pydicom.encaps import get_frame

        frame = get_frame(dataset.PixelData, 0, number_of_frames=header.frames)
        stream = read_codestream(frame, syntax, (header.height, header.width))
    if stream is None:
        cells = _cells(dataset, syntax, None, _native_options(dataset, syntax, samples))
        whole = Layout(cells.dtype.itemsize * 8, 0, True)
        layout = whole if cells.dtype.kind == "f" else Layout.of_dataset(dataset, whole.bits, notes)
        return stored_values(cells, layout), layout
    require_pixels(header.height, header.width, stream.components)
    declared = _declared(dataset, stream, notes)
    layout = _layout(stream, declared)
    cells = _cells(dataset, syntax, stream, _stream_options(dataset, syntax, stream, layout, notes))
    return _of_either(cells, layout, declared, notes)


def _cells(dataset: Dataset, syntax: UID, stream: Codestream | None, options: dict[str, Any]) -> NDArray:
    """The cells of the first frame as they are, colours as RGB."""
    from pydicom.pixels import get_decoder
    from pydicom.pixels.utils import as_pixel_options

    from covidmm.radiograph.codecs import decoder, decoder_cause

    known_as, plugin = decoder(syntax, stream)
    options = as_pixel_options(dataset, **options)
    # only of an object, pydicom insists on its transfer syntax
    source = dataset if known_as == syntax else dataset.PixelData
    try:
        return get_decoder(known_as).as_array(
            source, index=0, correct_unused_bits=False, decoding_plugin=plugin, **options
        )[0]
    except RuntimeError as error:
        raise ValueError(decoder_cause(error)) from error


def _native_options(dataset: Dataset, syntax: UID, samples: int) -> dict[str, Any]:
    """What pydicom has to know of a frame that declares nothing; its bytes are not copied where they need not be."""
    plain = samples == 1 and syntax.is_little_endian and dataset.get("BitsAllocated") != 1
    return {"raw": samples == 1, "view_only": plain and not syntax.is_encapsulated}


def _stream_options(
    dataset: Dataset, syntax: UID, stream: Codestream, layout: Layout, notes: list[str]
) -> dict[str, Any]:
    """What pydicom has to know of a compressed frame: what the frame declares instead of the DICOM attributes."""
    from covidmm.radiograph.codecs import JPEG_DCT

    options: dict[str, Any] = {
        "raw": stream.components == 1,
        "bits_allocated": 8 if stream.precision <= 8 else 16 if stream.precision <= 16 else 32,
        "bits_stored": stream.precision,
        "pixel_representation": int(layout.signed),
        "apply_j2k_sign_correction": False,
        "apply_jls_sign_correction": False,
    }
    declared = int(dataset.get("SamplesPerPixel") or 1)
    if stream.components != declared:
        notes.append(
            f"its JPEG stream holds {stream.components} samples per pixel, its header says {declared}: "
            "the stream's taken"
        )
        colours = "YBR_FULL" if syntax in JPEG_DCT else "RGB"
        options |= {
            "samples_per_pixel": stream.components,
            "photometric_interpretation": "MONOCHROME2" if stream.components == 1 else colours,
            "planar_configuration": 0,
        }
    return options


def _declared(dataset: Dataset, stream: Codestream, notes: list[str]) -> Layout:
    """The layout that the header of a compressed frame declares; the frame's own where that is none."""
    try:
        return Layout.of_dataset(dataset, max(int(dataset.BitsAllocated), stream.precision), notes)
    except (AttributeError, TypeError, ValueError) as error:
        notes.append(f"{error}: the JPEG stream's {stream.precision} bits taken")
        return Layout(stream.precision, 0, bool(dataset.get("PixelRepresentation")))


def _layout(stream: Codestream, declared: Layout) -> Layout:
    """How the values of a compressed frame lie in what its decoder returns, by the frame itself."""
    signed = declared.signed if stream.signed is None else stream.signed
    if declared.below and stream.precision >= declared.below + declared.bits:
        return declared._replace(signed=signed)  # the frame holds whole cells
    return Layout(stream.precision, 0, signed)


def _of_either(cells: NDArray, layout: Layout, declared: Layout, notes: list[str]) -> tuple[NDArray, Layout]:
    """A frame's values as it declares them, or as the header does where only so neighbours are alike.

    Some writers forget the sign, or compress an overlay in the bits above the stored ones too. Many give a frame more
    bits than are stored, which changes nothing where the values fit.
    """
    other = Layout(min(layout.bits, declared.bits), layout.below, declared.signed)
    values = stored_values(cells, layout)
    fits = other.limits[0] <= int(values.min()) and int(values.max()) <= other.limits[1]
    differences = [(_SIGNS[layout.signed], _SIGNS[other.signed])] if layout.signed != other.signed else []
    if layout.bits < declared.bits or (layout.bits > declared.bits and not fits):
        differences.append((f"{layout.bits} bits", f"{declared.bits}"))
    taken = "stream's"
    if not fits:
        reread = stored_values(cells.view(f"{'i' if other.signed else 'u'}{cells.itemsize}"), other)
        if _roughness(reread) * _ROUGHER < _roughness(values):
            values, taken = reread, "header's, with which alone neighbours are alike,"
    if differences:
        held, said = (", ".join(names) for names in zip(*differences, strict=True))
        notes.append(f"its JPEG stream holds {held}, its header says {said}: the {taken} taken")
    return values, layout if taken == "stream's" and not fits else other


def _roughness(values: NDArray) -> float:
    """How much pixels that lie side by side differ, in some of the rows, of how much pixels differ at all."""
    some = values[:: max(1, len(values) // 256)].astype(np.float64)
    return float(np.abs(np.diff(some, axis=1)).sum() / (np.ptp(some) or 1.0))
