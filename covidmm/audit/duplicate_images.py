"""Finds the same picture twice, across splits and data sets, also where a copy was brightened and cut a little.

Two searches over thumbnails name candidates, and the images themselves decide:

* :func:`covidmm.prepare.near_duplicates.near_duplicates`, by which ``tools/prepare.py`` keeps copies on one side.
* For copies that lost some rows or columns, a comparison of all images, each as it is and without 2 or 4 % on
  every side: first coarse band-passed thumbnails (16 x 16, correlation at least 0.95), then fine ones (64 x 64,
  at least 0.90).
* :func:`covidmm.audit.alignment.detail_agreement` of each candidate.

What this finds and how long it takes is in docs/audit.md.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from covidmm import radiograph
from covidmm.audit.alignment import MIN_DETAIL, detail_agreement
from covidmm.audit.appearance import SIDE, Look
from covidmm.audit.checks import Check, Level, Table
from covidmm.datasets.annotated_image import AnnotatedImage
from covidmm.prepare.near_duplicates import near_duplicates
from covidmm.prepare.near_duplicates import thumbnail as hashed_thumbnail

_CROPS = (0.0, 0.02, 0.04)
_COARSE_SIDE = 16
_COARSE_BAND = (3.0, 12.0)
_FINE_BAND = (1.0, 6.0)
_MIN_COARSE = 0.95
_MIN_FINE = 0.90
_BLOCK = 2048


class Pair(NamedTuple):
    """Two images that show one picture."""

    first: int
    second: int
    exact: bool


def find_pairs(looks: Sequence[Look], paths: Sequence[Path]) -> list[Pair]:
    """Every pair of images with equal pixels, or that show the same picture; ``first < second``, sorted.

    Args:
        looks: of all images.
        paths: their files, in the same order.
    """
    thumbnails = [look.thumbnail for look in looks]
    same: dict[str, list[int]] = defaultdict(list)
    for index, look in enumerate(looks):
        same[look.sha256].append(index)
    exact = {(one, other) for members in same.values() for k, one in enumerate(members) for other in members[k + 1 :]}
    candidates = {*near_duplicates([hashed_thumbnail(one) for one in thumbnails]), *cropped_duplicates(thumbnails)}
    read = lru_cache(maxsize=64)(lambda index: radiograph.read(paths[index]).pixels)
    near = {
        (one, other)
        for one, other in sorted(candidates - exact)
        if detail_agreement(read(one), read(other)) >= MIN_DETAIL
    }
    return [Pair(*pair, pair in exact) for pair in sorted(near | exact)]


def cropped_duplicates(thumbnails: Sequence[NDArray[np.uint8]]) -> list[tuple[int, int]]:
    """Index pairs ``(i, j)``, ``i < j``, of (64, 64) thumbnails of which one may be a part of the other: candidates.

    Pictures without any structure match nothing.
    """
    if len(thumbnails) < 2:
        return []
    coarse = [_describe(thumbnails, crop, _COARSE_BAND, _COARSE_SIDE) for crop in _CROPS]
    candidates = sorted({pair for first, second in _close(coarse) for pair in zip(first, second, strict=True)})
    pairs = []
    for start in range(0, len(candidates), _BLOCK):
        chosen = np.array(candidates[start : start + _BLOCK])
        used, places = np.unique(chosen, return_inverse=True)
        one, other = places.reshape(chosen.shape).T
        fine = [_describe([thumbnails[index] for index in used], crop, _FINE_BAND, SIDE) for crop in _CROPS]
        similar = np.max(
            [np.einsum("nk,nk->n", a[one], b[other]) for crop in fine for a, b in ((fine[0], crop), (crop, fine[0]))], 0
        )
        pairs += [tuple(pair) for pair in chosen[similar >= _MIN_FINE].tolist()]
    return pairs


def _close(coarse: Sequence[NDArray[np.float32]]) -> Iterator[tuple[list[int], list[int]]]:
    """Pairs whose coarse descriptions agree, whole against whole and whole against cut."""
    whole = coarse[0]
    for crop, cut in enumerate(coarse):
        for top in range(0, len(whole), _BLOCK):
            for left in range(top if crop == 0 else 0, len(whole), _BLOCK):
                product = whole[top : top + _BLOCK] @ cut[left : left + _BLOCK].T
                first, second = np.nonzero(product >= _MIN_COARSE)
                first, second = first + top, second + left
                low, high = np.minimum(first, second), np.maximum(first, second)
                yield low[low < high].tolist(), high[low < high].tolist()


def _describe(
    thumbnails: Sequence[NDArray[np.uint8]], crop: float, band: tuple[float, float], side: int
) -> NDArray[np.float32]:
    """Band-passed thumbnails without ``crop`` of each side, as unit vectors (N, side * side)."""
    inside = 1 - 2 * crop
    centre = np.array([[inside, 0, crop * SIDE], [0, inside, crop * SIDE]], np.float32)
    flat = np.empty((len(thumbnails), side * side), np.float32)
    for row, thumbnail in enumerate(thumbnails):
        picture = thumbnail.astype(np.float32)
        if crop:
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            picture = cv2.warpAffine(picture, centre, (SIDE, SIDE), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        detail = cv2.GaussianBlur(picture, (0, 0), band[0]) - cv2.GaussianBlur(picture, (0, 0), band[1])
        detail = cv2.resize(detail, (side, side), interpolation=cv2.INTER_AREA).ravel()
        flat[row] = detail - detail.mean()
    norm = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.divide(flat, norm, out=np.zeros_like(flat), where=norm > 1e-2)


def check_duplicates(entries: Sequence[AnnotatedImage], pairs: Sequence[Pair]) -> Check:
    """Which pairs put one picture into training and evaluation, or into two data sets.

    Pairs of one study in one split are its own two images, and pass.
    """
    found = [(pair, _where(entries[pair.first], entries[pair.second])) for pair in pairs]
    found = [(pair, where) for pair, where in found if where]
    counts = Counter(where for _, where in found)
    levels = {"across splits": Level.FAULT, "across data sets": Level.WARNING, "within a split": Level.WARNING}
    level = max((levels[where] for where in counts), default=Level.OK)
    leaks, exact = counts["across splits"], sum(pair.exact for pair, _ in found)
    between = Counter(
        " - ".join(sorted((entries[pair.first].dataset, entries[pair.second].dataset)))
        for pair, _ in found
        if entries[pair.first].dataset != entries[pair.second].dataset
    )
    summary = f"{len(found)} pairs of one picture ({exact} exact)" if found else "no picture occurs twice"
    if found:
        summary += f": {leaks} across splits, {sum(between.values())} between data sets"
    paragraph = (
        "Every image was compared with every other one of all the folders together, by equal pixels and by "
        "perceptual hash, so that re-encoded, resized, brightened and slightly cut copies count. A picture that "
        "a model trained on says nothing when the model is tested on it, also when it was met in another data set "
        "during pre-training: such a pair is a fault. Pairs on the same side are counted twice in training, or "
        "twice in a metric: a warning. "
    )
    if leaks:
        paragraph += (
            f"{leaks} pairs stand in different splits. Leave one image of each out (duplicates.csv lists them), or "
            "put both data sets' shared patients on one side."
        )
    rows = [
        (where, "exact" if pair.exact else "near", *_cells(entries[pair.first]), *_cells(entries[pair.second]))
        for pair, where in sorted(found, key=lambda item: (-levels[item[1]], item[0]))
    ]
    columns = ("where", "kind", *(f"{name}_{k}" for k in (1, 2) for name in ("dataset", "split", "study", "image_id")))
    numbers = {
        "pairs": len(found),
        "exact": exact,
        "where": dict(sorted(counts.items())),
        "between": dict(sorted(between.items())),
    }
    return Check("duplicates", level, summary, paragraph, numbers, (Table("duplicates", columns, rows),))


def _where(one: AnnotatedImage, other: AnnotatedImage) -> str | None:
    if one.split != other.split:
        return "across splits"
    if one.dataset != other.dataset:
        return "across data sets"
    return None if one.study_id == other.study_id else "within a split"


def _cells(entry: AnnotatedImage) -> tuple[str, str, str, str]:
    return entry.dataset, entry.split, entry.study_id, entry.image_id
