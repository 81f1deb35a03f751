"""Whether the pictures of a data set are there, whole, and of the annotated size."""

from __future__ import annotations

import os
from pathlib import Path

from PIL import Image

_PNG_END = b"IEND\xaeB`\x82"
_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)


def picture_fault(path: str | Path, size: tuple[int, int] | None = None, whole: bool = False) -> str | None:
    """Why a picture cannot be trained on, in a few words, or None.

    Args:
        path: the picture.
        size: annotated height and width in pixels; None where nobody gave them.
        whole: decode it, too; otherwise its header is read, and of a PNG its end.
    """
    path = Path(path)
    if not path.is_file():
        return "no such image"
    if not path.stat().st_size:
        return "is empty"
    try:
        with Image.open(path) as picture:
            found = picture.height, picture.width
            if whole or (picture.format == "PNG" and not _ends_as_png(path)):
                picture.load()
            if size and found != size and found == size[::-1] and _sideways(picture):
                found = size  # as OpenCV turns it
    except Exception as error:  # Pillow raises many kinds on a damaged file
        return f"is damaged ({' '.join(str(error).split()) or type(error).__name__})".replace(f" '{path}'", "")
    if size and found != size:
        return f"is {found[1]} x {found[0]} pixels, the annotations say {size[1]} x {size[0]}"
    return None


def _ends_as_png(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-len(_PNG_END), os.SEEK_END)
        return file.read() == _PNG_END


def _sideways(picture: Image.Image) -> bool:
    return picture.getexif().get(_ORIENTATION) in _SIDEWAYS
