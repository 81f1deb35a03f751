"""Reports pictures that occur twice, across splits and data sets; :mod:`covidmm.prepare.near_duplicates` finds them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from covidmm.audit.checks import Check, Level, Table
from covidmm.datasets.annotated_image import AnnotatedImage
from covidmm.prepare.near_duplicates import Pair


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
        "Every image was compared with every other one of all the folders together, by equal pixels and by what the "
        "pictures show, so that copies count that are cut, mirrored, inverted, windowed anew, resized, compressed or "
        "marked. A picture that a model trained on says nothing when the model is tested on it, also when it was met "
        "in another data set during pre-training: such a pair is a fault. Pairs on the same side are counted twice in "
        "training, or twice in a metric: a warning. "
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
