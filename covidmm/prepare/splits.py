"""Which images train, validate and test: pure functions of ids, labels and a seed.

Nothing here depends on the order in which images are given.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

FOLDS = 5
TEST = -1
"""The fold number of held-out test images."""

SPLITS = ("train", "val", "test")
MANIFEST = "prepared.json"

# More images than a group has.
_LARGEST = 10**12 - 1


class Groups:
    """Images that must stay together (union-find). A group goes by the least of its ids.

    Args:
        above: an empty map, for an image's way to the first one of its group.
    """

    def __init__(self, above: MutableMapping[str, str]) -> None:
        self._above = above

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


def group(
    shared: Iterable[tuple[str, str]], pairs: Iterable[tuple[str, str]], above: MutableMapping[str, str]
) -> Groups:
    """Groups of images that are connected by a shared key or by a pair.

    Args:
        shared: ``(key, image id)``, sorted: what an image shares with others, such as ``'study:a'`` or ``'patient:b'``.
        pairs: further ids that belong together, such as near-duplicates.
        above: see :class:`Groups`.
    """
    groups = Groups(above)
    last_key, last = "", ""
    for key, image in shared:
        if last and key == last_key:
            groups.join(last, image)
        last_key, last = key, image
    for one, other in pairs:
        groups.join(one, other)
    return groups


def placeholders(patients: Iterable[tuple[str, str]], studies: int) -> dict[str, int]:
    """Patient ids that name nobody ('ANON', '0'): those that more than half of all studies share, if more than 5.

    Args:
        patients: ``(patient id, study id)``, sorted, each once: the patient ids that the images of a study have.
        studies: number of all studies.

    Returns:
        Patient id -> number of its studies.
    """
    found = {}
    for patient, pairs in groupby(patients, itemgetter(0)):
        own = sum(1 for _ in pairs)
        if own > 5 and 2 * own > studies:
            found[patient] = own
    return found


def assign(
    images: Iterable[tuple[str | None, Sequence[str]]],
    new_map: Callable[[], MutableMapping[str, Any]],
    *,
    seed: int,
    test_fraction: float,
) -> Mapping[str, int]:
    """Give every group a fold 0..4, or -1 for the held-out test split.

    Greedy: large groups first, groups of one size in an order drawn by ``seed``; each goes where it brings
    the counts of its classes (and of images) nearest to their share, measured as chi-square does,
    ``sum((count - expected)^2 / expected)``, so that a rare class is spread as well as a common one.

    Args:
        images: of every image, the first one of its group (None: it has its place already), and the names of the
            classes that it counts for; any order.
        new_map: makes an empty map whose keys come in sorted order.
        seed: draws another split.
        test_fraction: share of the images in the test split, 0 <= f < 1; the folds share the rest equally.

    Returns:
        First image of every group -> fold.
    """
    tallies = new_map()
    total: tuple[int, dict[str, int]] = (0, {})
    names: set[str] = set()
    for first, classes in images:
        names.update(classes)
        if first is not None:
            tallies[first] = _add(tallies.get(first, (0, {})), classes)
            total = _add(total, classes)
    order = new_map()
    for first, tally in tallies.items():
        order[f"{_LARGEST - tally[0]:012d} {_draw(seed, first)}"] = (first, *tally)
    columns = sorted(names)

    shares = [(1 - test_fraction) / FOLDS] * FOLDS + ([test_fraction] if test_fraction > 0 else [])
    expected = np.outer(shares, _counts(total, columns))
    expected[expected == 0] = 1  # a class without images adds nothing either way
    missing = expected.copy()
    folds = [*range(FOLDS), TEST]
    result = new_map()
    for _, (first, *tally) in order.items():
        counts = _counts(tally, columns)
        # What adding the group to each bin would add to the chi-square sum.
        change = (counts * (counts - 2 * missing) / expected).sum(axis=1)
        best = int(change.argmin())
        missing[best] -= counts
        result[first] = folds[best]
    return result


def _add(tally: tuple[int, dict[str, int]], classes: Sequence[str]) -> tuple[int, dict[str, int]]:
    size, per_class = tally
    for name in classes:
        per_class[name] = per_class.get(name, 0) + 1
    return size + 1, per_class


def _counts(tally: Sequence[Any], columns: Sequence[str]) -> NDArray[np.float64]:
    """Images per class, and in the last column images whatever their class."""
    size, per_class = tally
    return np.array([*(per_class.get(name, 0) for name in columns), size], np.float64)


def split_of(fold: int, val_fold: int) -> str:
    """``'test'``, ``'val'`` or ``'train'`` for a fold, where ``val_fold`` validates."""
    if fold == TEST:
        return "test"
    return "val" if fold == val_fold else "train"


def _draw(seed: int, first: str) -> str:
    """A random but repeatable sort key that depends on the group alone, not on the others."""
    return hashlib.sha256(f"{seed}:{first}".encode()).hexdigest()
