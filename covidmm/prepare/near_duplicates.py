"""Finds radiographs that are the same picture: re-encoded, resized, brightened, or filed twice.

All chest radiographs look alike to a perceptual hash, so two are combined and then confirmed by detail.
Measured on 890 public radiographs (394,874 pairs of different patients, 17 kinds of altered copies of each):

* pHash + dHash: at most 16 of 128 bits differ. Alone this would join 189 pairs of different patients.
* Correlation of the high-passed thumbnails: at least 0.95. Between different patients whose hashes are near
  it was 0.91 at most; its tail, taken as exponential, gives 4 chance pairs in 10 million.

Found of the altered copies: all that were re-encoded as JPEG, shrunk to a half or a third, squeezed,
brightened by 30 of 255, darkened, gamma-corrected (0.7, 1.5), noisy or marked with a letter; 99 % of those
with contrast raised by 1.3; 71 % after local equalisation (CLAHE), 43 % after global. Of crops by 2 % a
third; crops by 5 %, added borders and rotations by 3 degrees are beyond it. All 90 radiographs that are both
in an RSNA set (1024 pixel JPEG) and an NIH set (288 pixel PNG) were matched, and no other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 32
MAX_BITS = 16
MIN_CORRELATION = 0.95
# Images that are compared with as many others at once: more would be no faster, and need more memory.
_BLOCK = 1024


def thumbnail(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Shrink an image (H, W) to (32, 32), aspect ignored: NIH's files are squeezed to squares, others not."""
    return cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def hashes(thumbnails: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Perceptual hashes of (N, 32, 32) thumbnails, as (N, 16): 128 bits each, packed.

    The first 64 are a pHash: the lowest frequencies of the discrete cosine transform against their median,
    constant term left out. The others are a dHash: whether it grows brighter from one of 9 x 8 cells to the
    next.
    """
    bits = np.empty((len(thumbnails), 128), bool)
    for row, picture in enumerate(thumbnails):
        low = cv2.dct(picture.astype(np.float32))[:9, :9].ravel()[1:65]
        bits[row, :64] = low > np.median(low)
        cells = cv2.resize(picture, (9, 8), interpolation=cv2.INTER_AREA).astype(np.int16)
        bits[row, 64:] = (np.diff(cells, axis=1) > 0).ravel()
    return np.packbits(bits, axis=1)


def near_duplicates(thumbnails: Sequence[NDArray[np.uint8]]) -> list[tuple[int, int]]:
    """Index pairs ``(i, j)``, ``i < j``, of images that show the same picture, held in memory.

    Args:
        thumbnails: see :func:`thumbnail`.
    """
    if len(thumbnails) < 2:
        return []
    stack = np.stack(thumbnails)
    return list(near_pairs(hashes(stack), stack))


def near_pairs(codes: NDArray[np.uint8], thumbnails: NDArray[np.uint8]) -> Iterator[tuple[int, int]]:
    """Yield the index pairs ``(i, j)``, ``i < j``, of images that show the same picture.

    Compares all pairs, a block of matrix products at a time: 30,000 images take some seconds.
    Pictures without any structure (one grey all over) match nothing.

    Args:
        codes: (N, 16), see :func:`hashes`.
        thumbnails: (N, 32, 32), see :func:`thumbnail`.
    """
    for first, second in _close(codes):
        one, first_places = np.unique(first, return_inverse=True)
        other, second_places = np.unique(second, return_inverse=True)
        details, other_details = _details(thumbnails[one]), _details(thumbnails[other])
        for start in range(0, len(first), _BLOCK):  # in parts: where all look alike, all are candidates
            part = slice(start, start + _BLOCK)
            agreement = np.einsum("nk,nk->n", details[first_places[part]], other_details[second_places[part]])
            similar = agreement >= MIN_CORRELATION
            yield from zip(first[part][similar].tolist(), second[part][similar].tolist(), strict=True)


def _close(codes: NDArray[np.uint8]) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Pairs whose hashes differ in at most ``MAX_BITS`` bits; of codes of +-1 that is (128 - product) / 2."""
    for top in range(0, len(codes), _BLOCK):
        upper = _signs(codes[top : top + _BLOCK])
        for left in range(top, len(codes), _BLOCK):
            product = upper @ _signs(codes[left : left + _BLOCK]).T
            close = np.flatnonzero(product >= 128 - 2 * MAX_BITS)  # a third quicker than np.nonzero
            first, second = np.divmod(close, product.shape[1])
            first, second = first + top, second + left
            above = first < second
            if above.any():
                yield first[above], second[above]


def _signs(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Packed bits (N, 16) as (N, 128) of -1 and 1."""
    return np.unpackbits(codes, axis=1).astype(np.float32) * 2 - 1


def _details(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """High-passed thumbnails as unit vectors (N, 1024): what is left when the coarse shading is gone."""
    flat = np.empty((len(thumbnails), SIDE * SIDE), np.float32)
    for row, thumb in enumerate(thumbnails):
        picture = thumb.astype(np.float32)
        detail = (picture - cv2.GaussianBlur(picture, (0, 0), 4)).ravel()
        flat[row] = detail - detail.mean()
    norm = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.divide(flat, norm, out=np.zeros_like(flat), where=norm > 1e-3)
