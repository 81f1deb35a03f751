"""Which images train, validate and test: pure functions of ids, labels and a seed.

Nothing here depends on the order in which images are given.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

FOLDS = 5
TEST = -1
"""The fold number of held-out test images."""

SPLITS = ("train", "val", "test")

Group = tuple[str, ...]
"""Ids of images that must stay together, sorted."""


def group(keys: Mapping[str, Iterable[str]], pairs: Iterable[tuple[str, str]] = ()) -> list[Group]:
    """Groups of images that are connected by a shared key or by a pair (union-find).

    Args:
        keys: image id -> what it shares with others, such as ``'study:a'`` or ``'patient:b'``.
        pairs: further ids that belong together, such as near-duplicates.

    Returns:
        Every image in exactly one group; groups and their members sorted.
    """
    parent = {image: image for image in keys}

    def root(image: str) -> str:
        while parent[image] != image:
            parent[image] = parent[parent[image]]
            image = parent[image]
        return image

    first_with: dict[str, str] = {}
    for image, shared in keys.items():
        for key in shared:
            parent[root(image)] = root(first_with.setdefault(key, image))
    for one, other in pairs:
        parent[root(one)] = root(other)
    members: dict[str, list[str]] = defaultdict(list)
    for image in keys:
        members[root(image)].append(image)
    return sorted(tuple(sorted(group)) for group in members.values())


def placeholders(studies: Mapping[str, Iterable[str]]) -> dict[str, int]:
    """Patient ids that name nobody ('ANON', '0'): those that more than half of all studies share, if more than 5.

    Args:
        studies: study id -> the patient ids that its images have.

    Returns:
        Patient id -> number of its studies.
    """
    counts = Counter(patient for patients in studies.values() for patient in set(patients))
    return {patient: own for patient, own in counts.items() if own > 5 and 2 * own > len(studies)}


def assign(
    groups: Sequence[Group],
    classes: Mapping[str, Sequence[str]],
    *,
    seed: int,
    test_fraction: float,
) -> dict[str, int]:
    """Give every group a fold 0..4, or -1 for the held-out test split.

    Greedy: large groups first, groups of one size in an order drawn by ``seed``; each goes where it brings
    the counts of its classes (and of images) nearest to their share, measured as chi-square does,
    ``sum((count - expected)^2 / expected)``, so that a rare class is spread as well as a common one.

    Args:
        groups: see :func:`group`; any order.
        classes: image id -> names of the classes it counts for.
        seed: draws another split.
        test_fraction: share of the images in the test split, 0 <= f < 1; the folds share the rest equally.

    Returns:
        Image id -> fold, the same for all images of a group.
    """
    names = sorted({name for labels in classes.values() for name in labels})
    column = {name: index for index, name in enumerate(names)}
    shares = [(1 - test_fraction) / FOLDS] * FOLDS + ([test_fraction] if test_fraction > 0 else [])
    folds = [*range(FOLDS), TEST]

    # The last column counts images whatever their class.
    tallies = np.zeros((len(groups), len(names) + 1))
    for row, members in enumerate(groups):
        tallies[row, -1] = len(members)
        for image in members:
            for name in classes[image]:
                tallies[row, column[name]] += 1
    expected = np.outer(shares, tallies.sum(axis=0))
    expected[expected == 0] = 1  # a class without images adds nothing either way
    missing = expected.copy()

    result: dict[str, int] = {}
    for row in sorted(range(len(groups)), key=lambda row: (-len(groups[row]), _draw(seed, groups[row]))):
        tally = tallies[row]
        # What adding the group to each bin would add to the chi-square sum.
        change = (tally * (tally - 2 * missing) / expected).sum(axis=1)
        best = int(change.argmin())
        missing[best] -= tally
        result.update(dict.fromkeys(groups[row], folds[best]))
    return result


def split_of(fold: int, val_fold: int) -> str:
    """``'test'``, ``'val'`` or ``'train'`` for a fold, where ``val_fold`` validates."""
    if fold == TEST:
        return "test"
    return "val" if fold == val_fold else "train"


def straddling(groups: Iterable[Group], sides: Mapping[str, str]) -> dict[str, str]:
    """Training images that are tied to an image of an official test list.

    Args:
        groups: see :func:`group`.
        sides: image id -> ``'train_val'`` or ``'test'``.

    Returns:
        Id of each such training image -> id of a test image in its group.
    """
    tied: dict[str, str] = {}
    for members in groups:
        test = [image for image in members if sides[image] == "test"]
        if test:
            tied.update({image: test[0] for image in members if sides[image] != "test"})
    return tied


def _draw(seed: int, members: Group) -> bytes:
    """A random but repeatable sort key that depends on the group alone, not on the others."""
    return hashlib.sha256(f"{seed}:{members[0]}".encode()).digest()
