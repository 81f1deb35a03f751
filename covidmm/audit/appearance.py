"""Reads every image once and keeps what the checks need of its pixels."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from covidmm import radiograph
from covidmm.errors import RadiographError
from covidmm.prepare.markers import find_markers
from covidmm.prepare.near_duplicates import thumbnail
from covidmm.utils.boxes import normalised
from covidmm.utils.pool import run_each

#: Cells of the blurred image per side.
CELLS = 8
_CELL = 8  # pixels
#: Width of the border strips as a share of the side; a corner is twice as wide. Chosen here: outside the lungs.
BORDER = 0.08
_BLACK, _WHITE = 8, 247


@dataclass(frozen=True)
class Look:
    """What is known of one image's pixels.

    Attributes:
        shape: height and width of the PNG.
        sha256: of shape and grey values, so that another PNG encoding is no difference.
        thumbnail: for :func:`covidmm.prepare.near_duplicates.find_pairs`.
        blur: (8, 8) mean grey values, squeezed to a square.
        border: (48,) float32: of 4 border strips and 4 corners mean, spread, shares of black and white, and how
            sharp they are.
        markers: (N, 4) regions of burned-in letters, as shares of width and height.
    """

    shape: tuple[int, int]
    sha256: str
    thumbnail: NDArray[np.uint8]
    blur: NDArray[np.float64]
    border: NDArray[np.float32]
    markers: NDArray[np.float64]


def look_at(path: Path) -> Look:
    """Read one prepared image.

    Raises:
        RadiographError: it is missing or damaged.
    """
    pixels = radiograph.read(path).pixels
    small = cv2.resize(pixels, (CELLS * _CELL, CELLS * _CELL), interpolation=cv2.INTER_AREA)
    return Look(
        shape=pixels.shape,
        sha256=hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest(),
        thumbnail=thumbnail(pixels),
        blur=small.reshape(CELLS, _CELL, CELLS, _CELL).mean((1, 3), np.float64),
        border=border_statistics(pixels),
        markers=normalised(find_markers(pixels), pixels.shape),
    )


def look_at_all(
    paths: Sequence[Path], workers: int = 1, progress: bool | None = None
) -> tuple[dict[Path, Look], dict[Path, str]]:
    """Look at every image; those that cannot be read come back with the cause.

    Args:
        paths: the PNGs.
        workers: number of processes.
        progress: show a bar; None: only on a terminal.
    """
    looks: dict[Path, Look] = {}
    failed: dict[Path, str] = {}
    hidden = None if progress is None else not progress
    results = run_each(look_at, paths, workers)
    with closing(results), tqdm(total=len(paths), desc="looking", unit="image", disable=hidden, file=sys.stderr) as bar:
        for path, outcome in results:
            if isinstance(outcome, Look):
                looks[path] = outcome
            elif isinstance(outcome, RadiographError):
                failed[path] = str(outcome).removeprefix(f"{path}: ")
            else:
                failed[path] = f"{type(outcome).__name__}: {outcome}"
            bar.update()
    return looks, failed


def border_statistics(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The 48 numbers of :attr:`Look.border`; nothing further inside than twice ``BORDER`` has a part in them."""
    high, wide = (max(2, round(BORDER * length)) for length in pixels.shape)
    strips = pixels[:high], pixels[-high:], pixels[:, :wide], pixels[:, -wide:]
    corners = [
        pixels[rows, columns]
        for rows in (slice(2 * high), slice(-2 * high, None))
        for columns in (slice(2 * wide), slice(-2 * wide, None))
    ]
    values: list[float] = []
    for part in (*strips, *corners):
        edges = np.abs(cv2.Laplacian(part.astype(np.float32), cv2.CV_32F))
        values += [part.mean(), part.std(), (part < _BLACK).mean(), (part > _WHITE).mean()]
        values += [np.log1p(edges.mean()), np.log1p(np.quantile(edges, 0.99))]
    return np.array(values, np.float32)
