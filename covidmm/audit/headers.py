"""Tests whether fields of the file header alone predict the class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_mutual_info_score, mutual_info_score

from covidmm.audit.association import associate
from covidmm.audit.audited_images import leakage_groups
from covidmm.audit.checks import Check, Level, Table
from covidmm.datasets.annotated_image import AnnotatedImage

#: Header values that a COCO entry may have; size is that of the original file.
CATEGORIES = ("photometric", "view", "sex", "modality", "manufacturer", "body_part", "bits_stored")
NUMBERS = ("age", "original_width", "original_height", "aspect")
_MISSING = "missing"
_RARE = 5
_QUANTILES = (0.2, 0.4, 0.6, 0.8)


def check_headers(entries: Sequence[AnnotatedImage]) -> list[Check]:
    """One check per data set: mutual information field by field, and a classifier on all of them."""
    names = list(dict.fromkeys(entry.dataset for entry in entries))
    return [_check(name, [entry for entry in entries if entry.dataset == name]) for name in names]


def header_values(entries: Sequence[AnnotatedImage]) -> dict[str, list[str]]:
    """Field -> one discrete value per image; numbers by fifths; fields with a single value are left out."""
    values: dict[str, list[str]] = {}
    for field in (*CATEGORIES, *NUMBERS):
        raw = [_aspect(entry) if field == "aspect" else entry.coco.get(field) for entry in entries]
        found = _fifths(raw) if field in NUMBERS else [_MISSING if one is None else str(one) for one in raw]
        counts = Counter(found)
        found = ["rare" if counts[one] < _RARE else one for one in found]
        if len(set(found)) > 1:
            values[field] = found
    return values


def _check(name: str, entries: Sequence[AnnotatedImage]) -> Check:
    values = header_values(entries)
    found = associate(_one_hot(values, len(entries)), [entry.classes for entry in entries], leakage_groups(entries))
    level = found.level()
    rows = _information(entries, values)
    summary = f"header alone predicts {found.text()}" if found.best else found.text()
    paragraph = (
        f"A linear classifier saw only header fields of {name} ({', '.join(values) or 'all are constant'}), each as "
        "categories, and ranked images of patients that it was not fitted on. Where it does better than chance, "
        "equipment or habit differs between the classes, and a model may learn that in place of disease. "
    )
    if level > Level.OK and rows:
        paragraph += (
            f"The field that tells most is {rows[0][1]} (adjusted mutual information {rows[0][4]:.2f}"
            f"{f' with {rows[0][0]}' if rows[0][0] else ''}). View, age and "
            "sex may go with the disease for medical reasons: the sick are taken lying down. Photometric "
            "interpretation, size, depth, modality and manufacturer have no such reason: balance or drop the images "
            "they mark, or report results per group."
        )
    several = any(row[0] for row in rows)
    bits: dict[str, dict[str, float]] = {}
    for label, field, _, value, _ in rows:
        bits.setdefault(label, {})[field] = value
    numbers = {**found.numbers(), "mutual_information_bits": bits if several else bits.get("", {})}
    columns = ("dataset", "class", "field", "values", "mutual_information_bits", "adjusted_mutual_information")
    if not several:
        columns, rows = (columns[0], *columns[2:]), [row[1:] for row in rows]
    table = Table(f"headers-{name}", columns, [(name, *row) for row in rows])
    tables = (table, *found.table(f"headers-{name}-classes"))
    return Check(f"headers {name}", level, summary, paragraph, numbers, tables)


def _information(
    entries: Sequence[AnnotatedImage], values: Mapping[str, Sequence[str]]
) -> list[tuple[str, str, int, float, float]]:
    """Class, field, number of its values, and mutual information in bits, as it is and adjusted for chance.

    Where an image may have several classes, each by itself; else of all together, and the class is empty.
    """
    names = sorted({name for entry in entries for name in entry.classes})
    if all(len(entry.classes) == 1 for entry in entries) or len(names) < 2:
        labels = {"": ["|".join(entry.classes) for entry in entries]}
    else:
        labels = {name: [str(name in entry.classes) for entry in entries] for name in names}
    rows = [
        (
            label,
            field,
            len(set(own)),
            round(float(mutual_info_score(classes, own) / np.log(2)), 4),
            round(float(adjusted_mutual_info_score(classes, own)), 4),
        )
        for label, classes in labels.items()
        for field, own in values.items()
    ]
    return sorted(rows, key=lambda row: (-row[4], row[1], row[0]))


def _aspect(entry: AnnotatedImage) -> float:
    height, width = entry.original_size
    return width / height


def _fifths(raw: Sequence[float | None]) -> list[str]:
    known = [float(one) for one in raw if one is not None]
    if not known:
        return [_MISSING] * len(raw)
    edges = np.unique(np.quantile(known, _QUANTILES))
    return [_MISSING if one is None else f"fifth {np.searchsorted(edges, float(one)) + 1}" for one in raw]


def _one_hot(values: dict[str, list[str]], rows: int) -> NDArray[np.float64]:
    columns = [np.array(own) == value for own in values.values() for value in sorted(set(own))]
    return np.stack(columns, 1).astype(np.float64) if columns else np.zeros((rows, 0))
