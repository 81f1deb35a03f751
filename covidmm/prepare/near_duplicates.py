"""Finds radiographs that are one picture: cut, mirrored, inverted, windowed anew, resized, compressed, marked.

The one finder of ``tools/prepare.py``, which keeps such images on one side of the splits, and of ``tools/audit.py``,
which reports them. Whether two images are a pair depends on these two alone. Three steps:

1. Thumbnails without shading and with even contrast are written in cosines, of the whole and of 81 windows that are
   up to 8 % smaller on each side. All wholes are compared with all windows by matrix products. Even and odd cosines
   are multiplied separately: their signs say whether a picture is mirrored or inverted.
2. The detail of the first thumbnail and of that window of the second is correlated.
3. The images themselves are read and aligned (affine), and their detail is correlated.

How much it finds, and what it costs, is in docs/audit.md.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from functools import lru_cache
from itertools import combinations, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from covidmm import radiograph
from covidmm.errors import DataError
from covidmm.prepare.alignment import agreement, detail_agreement, even_out, in_pixels, resized
from covidmm.utils.fileio import json_bytes, json_value
from covidmm.utils.pool import WorkerCrashedError, run_each

#: Side of the thumbnails, pixels.
SIDE = 48
# Measured on copies of public radiographs and phantoms, and on pairs of different patients: docs/audit.md.
MIN_SIMILARITY = 0.88
MIN_COARSE_DETAIL = 0.65
MIN_DETAIL = 0.8
_SHADING, _DETAIL_SHADING, _NOISE = 4.8, 2.0, 4.0  # blurs in pixels of the thumbnail, variance in grey values
_FREQUENCIES = np.arange(13)  # half waves over the side
_RADIUS = np.hypot(_FREQUENCIES[:, None], _FREQUENCIES)
_WEIGHTS = _RADIUS * ((_RADIUS >= 4) & (_RADIUS <= 12))  # chests are alike in the lower ones
# Each side of a window is within 1.5 % of a cut by 0 to 8 %.
_Cut = tuple[float, float]
_CUTS: tuple[_Cut, ...] = tuple(product((0.01, 0.04, 0.07), repeat=2))
_WINDOWS = tuple(product(_CUTS, repeat=2))
# Length of the vectors of cosines, which are of whole numbers: products up to 2 ** 24 are exact in float32, and so the
# same for a pair wherever it stands among the others.
_LENGTH = 4000
_BLOCK = 512  # images compared with as many others at once: the windows of 512 take 18 MB
# Files that the workers share.
_THUMBNAILS, _PATHS = "thumbnails.npy", "paths.json"


class Pair(NamedTuple):
    """Two images that show one picture."""

    first: int
    second: int
    exact: bool


class _Candidate(NamedTuple):
    """``first`` looks like a window of ``second``."""

    first: int
    second: int
    window: int
    mirrored: bool
    inverted: bool


class _Cosines(NamedTuple):
    """Vectors of cosines of pictures."""

    even: NDArray[np.float32]
    """(N, E), which mirroring leaves as they are."""
    odd: NDArray[np.float32]
    """(N, O), whose signs mirroring changes."""


def thumbnail(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Shrink an image (H, W) to (48, 48), aspect ignored: NIH's files are squeezed to squares, others not."""
    return resized(pixels, SIDE)


def find_pairs(
    thumbnails: NDArray[np.uint8],
    digests: Sequence[str],
    paths: Sequence[Path],
    workers: int = 1,
    progress: bool | None = None,
) -> list[Pair]:
    """Every pair of images with equal pixels, or that show the same picture; ``first < second``, sorted.

    Pictures without any structure (one grey all over) match nothing but equal ones.

    Args:
        thumbnails: (N, 48, 48), see :func:`thumbnail`.
        digests: of all images, equal where all pixels are.
        paths: their files; only those of likely pairs are read.
        workers: processes that share the work where there is enough of it.
        progress: show a bar; None: only on a terminal.

    Raises:
        RadiographError: a file cannot be read.
        DataError: a worker died, as when memory runs out.
    """
    same: dict[str, list[int]] = defaultdict(list)
    for index, digest in enumerate(digests):
        same[digest].append(index)
    members = list(same.values())
    pairs = [Pair(*pair, True) for own in members for pair in combinations(own, 2)]
    firsts = np.array([own[0] for own in members], np.intp)
    for one, other in _near_pairs(thumbnails[firsts], [paths[index] for index in firsts], workers, progress):
        pairs += [Pair(*sorted(pair), False) for pair in product(members[one], members[other])]
    return sorted(pairs)


def _near_pairs(
    thumbnails: NDArray[np.uint8], paths: Sequence[Path], workers: int, progress: bool | None
) -> set[tuple[int, int]]:
    found: set[tuple[int, int]] = set()
    blocks = range(0, len(thumbnails), _BLOCK)
    hidden = None if progress is None else not progress
    with ExitStack() as stack:
        bar = stack.enter_context(
            tqdm(total=len(thumbnails), desc="comparing", unit="image", disable=hidden, file=sys.stderr)
        )
        if min(workers, len(blocks)) > 1:
            folder = Path(stack.enter_context(TemporaryDirectory()))
            np.save(folder / _THUMBNAILS, thumbnails)  # mapped by every worker, sent to none
            (folder / _PATHS).write_bytes(json_bytes([str(path.absolute()) for path in paths]))
            jobs = [(folder, start) for start in blocks]
            results = stack.enter_context(closing(run_each(_pairs_in_worker, jobs, workers)))
        else:
            search = _Search(thumbnails, paths)
            results = (((None, start), search.pairs(start)) for start in blocks)
        for (_, start), outcome in results:
            if isinstance(outcome, WorkerCrashedError):
                raise DataError(f"{paths[start]}: comparing it and the next images failed: {outcome}") from outcome
            if isinstance(outcome, Exception):
                raise outcome
            found |= outcome
            bar.update(min(_BLOCK, len(thumbnails) - start))
    return found


def _pairs_in_worker(job: tuple[Path, int]) -> set[tuple[int, int]]:
    folder, start = job
    return _opened(folder).pairs(start)


@lru_cache(1)
def _opened(folder: Path) -> _Search:
    paths = [Path(path) for path in json_value((folder / _PATHS).read_bytes())]
    return _Search(np.load(folder / _THUMBNAILS, mmap_mode="r"), paths)


class _Search:
    """The comparison of all images with a block of them at a time."""

    def __init__(self, thumbnails: NDArray[np.uint8], paths: Sequence[Path]) -> None:
        self._thumbnails = thumbnails
        self._details = lru_cache(2 * _BLOCK)(lambda index: even_out(thumbnails[index], _DETAIL_SHADING, _NOISE))
        self._read = lru_cache(64)(lambda index: radiograph.read(paths[index]).pixels)
        self._blocks = [slice(start, start + _BLOCK) for start in range(0, len(thumbnails), _BLOCK)]
        whole = (0.0, 0.0)
        self._wholes = [next(_describe(thumbnails[block], [(whole, whole)])) for block in self._blocks]

    def pairs(self, start: int) -> set[tuple[int, int]]:
        """Index pairs of which the second image, or a window of it, is in the block that begins at ``start``."""
        found: set[tuple[int, int]] = set()
        for one in self._candidates(start):
            pair = min(one.first, one.second), max(one.first, one.second)
            if pair not in found and self._confirmed(one):
                found.add(pair)
        return found

    def _candidates(self, start: int) -> Iterator[_Candidate]:
        """Images that look like a window of one in the block; of several windows the most similar."""
        windows = list(_describe(self._thumbnails[start : start + _BLOCK], _WINDOWS))
        for other, those in zip(self._blocks, self._wholes, strict=True):
            for first, second, *rest in _similar(those, windows):
                if first + other.start != second + start:
                    yield _Candidate(first + other.start, second + start, *rest)

    def _confirmed(self, one: _Candidate) -> bool:
        details, read, warp = self._details, self._read, _window_map(one)
        detail = -details(one.second) if one.inverted else details(one.second)
        if agreement(details(one.first), _mirrored(detail, one), in_pixels(warp, SIDE)) < MIN_COARSE_DETAIL:
            return False
        other = 255 - read(one.second) if one.inverted else read(one.second)
        return detail_agreement(read(one.first), _mirrored(other, one), warp) >= MIN_DETAIL


def _describe(thumbnails: NDArray[np.uint8], windows: Sequence[tuple[_Cut, _Cut]]) -> Iterator[_Cosines]:
    """The cosines of each window of thumbnails (N, 48, 48): all zero where there is no structure."""
    evened = np.stack([even_out(one, _SHADING, _NOISE) for one in thumbnails])
    axes = {cut: _cosines(*cut) for window in windows for cut in window}
    across = {cut: evened @ axis.T for cut, axis in axes.items()}
    even, odd = (np.flatnonzero((_WEIGHTS > 0) & ((_FREQUENCIES % 2 == 1) == side)) for side in (False, True))
    for columns, rows in windows:
        cosines = (axes[rows] @ across[columns]) * _WEIGHTS
        length = np.linalg.norm(cosines, axis=(1, 2), keepdims=True)
        cosines = np.divide(_LENGTH * cosines, length, out=np.zeros_like(cosines), where=length > 1e-3)
        cosines = np.rint(cosines).astype(np.float32).reshape(len(cosines), -1)
        yield _Cosines(cosines[:, even], cosines[:, odd])


def _cosines(start: float, end: float) -> NDArray[np.float32]:
    """(F, 48) cosines over an axis of a thumbnail of which shares are cut off at the start and the end."""
    edges = np.clip(np.arange(SIDE + 1) / SIDE, start, 1 - end)
    middles = ((edges[1:] + edges[:-1]) / 2 - start) / (1 - start - end)
    return (np.diff(edges) * np.cos(np.pi * _FREQUENCIES[:, None] * middles)).astype(np.float32)


def _similar(wholes: _Cosines, windows: Sequence[_Cosines]) -> Iterator[tuple[int, int, int, bool, bool]]:
    """Row, column, most similar window, mirrored and inverted of every similar pair of two blocks."""
    hits = []
    for number, window in enumerate(windows):
        even, odd = wholes.even @ window.even.T, wholes.odd @ window.odd.T
        similarity = np.abs(even) + np.abs(odd)
        (place,) = np.nonzero((similarity >= MIN_SIMILARITY * _LENGTH**2).ravel())
        signs = (part.ravel()[place] for part in (even, odd))
        hits.append((place, similarity.ravel()[place], np.full(len(place), number), *signs))
    place, similarity, number, even, odd = map(np.concatenate, zip(*hits, strict=True))
    order = np.lexsort((number, -similarity, place))
    best = order[np.unique(place[order], return_index=True)[1]]
    rows, columns = np.divmod(place[best], len(windows[0].even))
    found = (rows, columns, number[best], even[best] * odd[best] < 0, even[best] < 0)
    yield from zip(*(part.tolist() for part in found), strict=True)


def _mirrored(picture: NDArray[Any], candidate: _Candidate) -> NDArray[Any]:
    """The second picture of a pair, with its sides as the first one has them."""
    return np.ascontiguousarray(picture[:, ::-1]) if candidate.mirrored else picture


def _window_map(candidate: _Candidate) -> NDArray[np.float32]:
    """The map from the first picture to its window in the second, with sides as the first has them; both of side 1."""
    (left, right), (top, bottom) = _WINDOWS[candidate.window]
    start = right if candidate.mirrored else left
    return np.array([[1 - left - right, 0, start], [0, 1 - top - bottom, top]], np.float32)
