"""Images without a medical header: PNG, JPEG and TIFF files, Pillow's images, arrays and tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from covidmm.radiograph.bounds import BoundedFile
from covidmm.radiograph.grey import luminance, stretch_parts
from covidmm.radiograph.header import Header
from covidmm.radiograph.image import Radiograph, one_line_errors, require_pixels

_ORIENTATION = 0x0112
#: EXIF orientation -> what turns the stored picture as it is meant to be seen.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
#: Those that exchange height and width.
_SIDEWAYS = frozenset({5, 6, 7, 8})
#: How far 255 times a float may be from a whole number, so that an array counts as 8 bits divided by 255. Chosen here.
_NEAR = 1e-3


def read_picture(path: Path) -> Radiograph:
    """A PNG, JPEG or TIFF as EXIF turns it: 8 bits as they are, more stretched as DICOM is, colours as luminance."""
    with BoundedFile(path) as file, Image.open(file) as picture:
        return _of_picture(picture, path)


def picture_header(path: Path) -> Header:
    """What is known of a PNG, JPEG or TIFF without decoding a pixel."""
    with BoundedFile(path) as file, Image.open(file) as picture:
        return _header(picture, path)


def of_array(image: Any, name: str = "array") -> Radiograph:
    """A grey or colour image with air black, as people have it at hand.

    Args:
        image: an array or tensor (H, W), (H, W, 1), (1, H, W) or, red first, (3, H, W); or an image of Pillow, read
            as its file is. 8 bits stay as they are, also divided by 255; others are stretched to 0..255.
        name: what it is called in errors.

    Raises:
        RadiographError: it is none of these, is empty, or holds values that are not finite numbers.
    """
    path = Path(name)
    with one_line_errors(path):
        if isinstance(image, Image.Image):
            return _of_picture(image, path)
        values = _grey(_numbers(image))
        pixels = values.copy() if values.dtype == np.uint8 else stretch_parts(values)
        pixels.setflags(write=False)
        return Radiograph(Header(path, *pixels.shape), pixels)


def _of_picture(picture: Image.Image, path: Path) -> Radiograph:
    header = _header(picture, path)
    require_pixels(header.height, header.width, len(picture.getbands()))
    notes = [f"first of {picture.n_frames} pages"] if getattr(picture, "n_frames", 1) > 1 else []
    orientation = _orientation(picture)
    if orientation is not None and orientation not in (1, *_TURNS):
        notes.append("EXIF orientation ignored: it is none of 1 to 8")
    if orientation in _TURNS:
        notes.append(f"turned by its EXIF orientation, {orientation}")
        picture = picture if _turns_itself(picture) else picture.transpose(_TURNS[orientation])
    pixels = stretch_parts(np.asarray(picture)) if header.bits_stored > 8 else np.array(picture.convert("L"))
    pixels.setflags(write=False)
    return Radiograph(header, pixels, tuple(notes))


def _header(picture: Image.Image, path: Path) -> Header:
    width, height = picture.size
    if _orientation(picture) in _SIDEWAYS and not _turns_itself(picture):
        width, height = height, width
    return Header(path, height, width, bits_stored=_bits(picture.mode))


def _orientation(picture: Image.Image) -> int | None:
    """Its EXIF orientation; 0 where EXIF cannot be read."""
    try:
        found = Image.Image.getexif(picture).get(_ORIENTATION)  # a PNG's own method would decode it
    except Exception:  # as decoders of foreign bytes, it raises anything
        return 0
    return found if isinstance(found, int) else None


def _turns_itself(picture: Image.Image) -> bool:
    """Whether Pillow turns it when it is decoded, and gives its size so."""
    return picture.format == "TIFF"


def _bits(mode: str) -> int:
    return {"1": 1, "I": 32, "F": 32}.get(mode, 16 if mode.startswith("I;16") else 8)


def _numbers(image: Any) -> NDArray:
    """The finite numbers of an array or tensor."""
    kind = type(image).__name__
    if hasattr(image, "detach"):  # torch need not be imported for it
        image = image.detach().cpu()
        image = image.double() if image.is_floating_point() else image
    values = np.asarray(image)
    if values.dtype.kind not in "buif":
        raise ValueError(f"is no image: {kind} of {values.dtype}" if values.ndim else f"is no image: {kind}")
    if not values.size:
        raise ValueError(f"holds no pixel: its shape is {values.shape}")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError("holds values that are not finite numbers")
    return values


def _grey(values: NDArray) -> NDArray:
    """(H, W) of one channel, first or last, or of three, red first."""
    if values.ndim == 3 and values.shape[-1] == 1 and values.shape[0] != 3:
        values = values[..., 0]
    if values.ndim != 2 and (values.ndim != 3 or values.shape[0] not in (1, 3)):
        raise ValueError(f"an image is (height, width), in colour (3, height, width), not of the shape {values.shape}")
    require_pixels(*values.shape[-2:], len(values) if values.ndim == 3 else 1)
    values = _eight_bits(values)
    if values.ndim == 2 or len(values) == 1:
        return values.reshape(values.shape[-2:])
    colours = np.moveaxis(values, 0, -1)
    if colours.dtype == np.uint8:
        return np.array(Image.fromarray(np.ascontiguousarray(colours)).convert("L"))
    return luminance(colours)


def _eight_bits(values: NDArray) -> NDArray:
    """Floats that are 8 bits divided by 255, as torchvision makes them, as 8 bits again; others as they are."""
    if values.dtype.kind != "f" or values.min() < 0 or values.max() > 1:
        return values
    scaled = values.astype(np.float64) * 255
    whole = np.rint(scaled)
    return whole.astype(np.uint8) if np.abs(scaled - whole).max() < _NEAR else values
