"""Radiographs as PNG bytes: grey values and nothing else, no text, date or profile."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

#: Longer side of a preview, pixels; finer than any screen that it is looked at on. Chosen here.
PREVIEW_SIZE = 2048


def png(pixels: NDArray[np.uint8]) -> bytes:
    """(H, W) grey values as a PNG, quick rather than small: it goes to the next room."""
    done, encoded = cv2.imencode(".png", pixels, (cv2.IMWRITE_PNG_COMPRESSION, 1))
    if not done:
        raise ValueError(f"no PNG can be made of the shape {pixels.shape}")
    return encoded.tobytes()
