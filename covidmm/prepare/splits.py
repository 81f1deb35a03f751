"""Divides images into folds and splits: pure functions of ids, labels and a seed.

Nothing here depends on the order in which images are given.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

FOLDS = 5
TEST = -1
"""The fold number of held-out test images."""

SPLITS = ("train", "val", "test")
MANIFEST = "prepared.json"


class Groups:
    """Images that must stay together (union-find). A group goes by the least of its ids."""

    def __init__(self) -> None:
        self._above: dict[str, str] = {}

    def first(self, image: str) -> str:
        """The least id of the image's group."""
        above = self._above.get(image)
        if above is None:
            return image
        while (next_above := self._above.get(above)) is not None:
            self._above[image] = next_above
            image, above = above, next_above
        return above

    def join(self, one: str, other: str) -> None:
        """Make one group of those of two images."""
        low, high = sorted((self.first(one), self.first(other)))
        if low != high:
            self._above[high] = low


def group(shared: Iterable[tuple[Hashable, str]], pairs: Iterable[tuple[str, str]]) -> Groups:
    """Groups of images that are connected by a shared key or by a pair.

    Args:
        shared: ``(key, image id)``: what an image shares with others, such as ``('study', 'a')``.
        pairs: further ids that belong together, such as near-duplicates.
    """
    groups = Groups()
    holder: dict[Hashable, str] = {}
    for key, image in shared:
        groups.join(holder.setdefault(key, image), image)
    for one, other in pairs:
        groups.join(one, other)
    return groups


def placeholders(patients: Iterable[tuple[str, str]], studies: int) -> dict[str, int]:
    """Placeholder patient ids ('ANON', '0'): those that more than half of all studies share, if more than 5.

    Args:
        patients: ``(patient id, study id)``: the patient ids that the images of a study have.
        studies: number of all studies.

    Returns:
        Patient id -> number of its studies.
    """
    counts = Counter(patient for patient, _ in set(patients))
    return {patient: own for patient, own in counts.items() if own > 5 and 2 * own > studies}


def assign(images: Iterable[tuple[str | None, Sequence[str]]], *, seed: int, test_fraction: float) -> dict[str, int]:
    """Give every group a fold 0..4, or -1 for the held-out test split.

    Greedy: large groups first, groups of one size in an order drawn by ``seed``; each goes where it brings
    the counts of its classes (and of images) nearest to their share, measured as chi-square does,
    ``sum((count - expected)^2 / expected)``, so that a rare class is spread as well as a common one.

    Args:
        images: of every image, the first one of its group (None: it has its place already), and the names of the
            classes that it counts for; any order.
        seed: draws another split.
        test_fraction: share of the images in the test split, 0 <= f < 1; the folds share the rest equally.

    Returns:
        First image of every group -> fold.
    """
    sizes: Counter[str] = Counter()
    classes: defaultdict[str, Counter[str]] = defaultdict(Counter)
    names: set[str] = set()
    for first, own in images:
        names.update(own)
        if first is not None:
            sizes[first] += 1
            classes[first].update(own)
    columns = sorted(names)
    # images per class, and in the last column images whatever their class
    counts = {
        first: np.array([*(classes[first][name] for name in columns), size], np.float64)
        for first, size in sizes.items()
    }
    shares = [(1 - test_fraction) / FOLDS] * FOLDS + ([test_fraction] if test_fraction > 0 else [])
    expected = np.outer(shares, sum(counts.values(), np.zeros(len(columns) + 1)))
    expected[expected == 0] = 1  # a class without images adds nothing either way
    missing = expected.copy()
    folds = [*range(FOLDS), TEST]
    result = {}
    for first in sorted(sizes, key=lambda first: (-sizes[first], _draw(seed, first))):
        own = counts[first]
        # What adding the group to each bin would add to the chi-square sum.
        change = (own * (own - 2 * missing) / expected).sum(axis=1)
        best = int(change.argmin())
        missing[best] -= own
        result[first] = folds[best]
    return result


def split_of(fold: int, val_fold: int) -> str:
    """``'test'``, ``'val'`` or ``'train'`` for a fold, where ``val_fold`` validates."""
    if fold == TEST:
        return "test"
    return "val" if fold == val_fold else "train"


def _draw(seed: int, first: str) -> str:
    """A random but repeatable sort key that depends on the group alone, not on the others."""
    return hashlib.sha256(f"{seed}:{first}".encode()).hexdigest()
