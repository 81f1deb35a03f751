"""Lays one radiograph over another and says how well their detail agrees."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_SIDE = 256
_REGISTERED_SIDE = 128
_REGISTERED_SHADING = 7.7
_FINEST, _COARSEST = 1.0, 4.0  # blurs in pixels: detail is what the first keeps and the second removes
_STEPS = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 30, 1e-3)
_SAMPLING = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP


def even_out(picture: NDArray[np.uint8] | NDArray[np.float32], shading: float, floor: float) -> NDArray[np.float32]:
    """A picture without its shading and with even contrast, so that another window, gamma or a letter changes little.

    Args:
        picture: (H, W), grey values of 255.
        shading: blur in pixels; what it keeps is removed, and contrast is measured over as much.
        floor: variance below which contrast counts as noise.

    Returns:
        (H, W) in -3..3; a negative gives the same with the other sign.
    """
    picture = picture.astype(np.float32)
    detail = picture - cv2.GaussianBlur(picture, (0, 0), shading)
    power = cv2.GaussianBlur(detail * detail, (0, 0), shading)
    return np.clip(detail / np.sqrt(power + floor), -3, 3)


def resized(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The image squeezed to a square."""
    method = cv2.INTER_AREA if min(pixels.shape) >= side else cv2.INTER_LINEAR
    return cv2.resize(pixels, (side, side), interpolation=method)


def agreement(one: NDArray[np.float32], other: NDArray[np.float32], warp: NDArray[np.float32]) -> float:
    """Correlation of two pictures of one size (S, S), the second moved by ``warp``, without the outer sixteenth."""
    moved = cv2.warpAffine(other, warp, one.shape[::-1], flags=_SAMPLING, borderMode=cv2.BORDER_REPLICATE)
    inside = slice(len(one) // 16, -(len(one) // 16))
    first, second = one[inside, inside].ravel(), moved[inside, inside].ravel()
    if min(first.std(), second.std()) < 1e-3:
        return -1.0
    return float(np.corrcoef(first, second)[0, 1])


def detail_agreement(one: NDArray[np.uint8], other: NDArray[np.uint8], warp: NDArray[np.float32]) -> float:
    """Correlation of the fine detail of two images after an affine alignment.

    The alignment maximises the enhanced correlation coefficient (Evangelidis & Psarakis, 2008) of 128 x 128 pixels,
    starting at ``warp``; the correlation is that of 256 x 256 pixels.

    Args:
        one: (H, W).
        other: (H', W').
        warp: (2, 3) first guess of the map from ``one`` to ``other``, both as squares of side 1.

    Returns:
        -1..1; -1 where no alignment is found.
    """
    # both with as much detail as the smaller one has
    common = min(*one.shape, *other.shape, _SIDE)
    pictures = [resized(resized(pixels, common), _SIDE).astype(np.float32) for pixels in (one, other)]
    size = _REGISTERED_SIDE, _REGISTERED_SIDE
    small = [cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in pictures]
    evened = [even_out(picture, _REGISTERED_SHADING, 4.0) for picture in small]
    try:
        _, found = cv2.findTransformECC(*evened, in_pixels(warp, _REGISTERED_SIDE), cv2.MOTION_AFFINE, _STEPS, None, 3)
    except cv2.error:  # no structure, or too far apart
        return -1.0
    details = [even_out(cv2.GaussianBlur(picture, (0, 0), _FINEST), _COARSEST, 1.0) for picture in pictures]
    return agreement(*details, in_pixels(of_unit(found, _REGISTERED_SIDE), _SIDE))


def in_pixels(warp: NDArray[np.floating], side: int) -> NDArray[np.float32]:
    """A map between squares of side 1 as one between the pixel centres of pictures (side, side)."""
    shift = side * warp[:, 2] + warp[:, :2].sum(1) / 2 - 0.5
    return np.column_stack([warp[:, :2], shift]).astype(np.float32)


def of_unit(warp: NDArray[np.floating], side: int) -> NDArray[np.float32]:
    """The inverse of :func:`in_pixels`."""
    shift = (warp[:, 2] + 0.5 - warp[:, :2].sum(1) / 2) / side
    return np.column_stack([warp[:, :2], shift]).astype(np.float32)
