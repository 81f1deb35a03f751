"""Tests whether a classifier that cannot see the lungs predicts the class: borders, blur, burned-in letters, source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2_contingency
from scipy.stats.contingency import association as contingency

from covidmm.audit.appearance import CELLS, Look
from covidmm.audit.association import MAX_P, Association, associate
from covidmm.audit.audited_images import leakage_groups
from covidmm.audit.checks import Check, Level, Table
from covidmm.datasets.annotated_image import AnnotatedImage
from covidmm.utils.boxes import areas, normalised

#: A cell that boxes touch in this share of the boxed images, or less, counts as outside the reach of disease.
OUT_OF_REACH = 0.05
#: Two data sets can be told apart where the lower end of the interval is at least this.
MIN_SOURCE_AUROC = 0.75
#: Classes differ between data sets where Cramer's V is at least this.
MIN_CRAMER = 0.1
_MARKER_CELLS = 4


def check_border(entries: Sequence[AnnotatedImage], looks: Sequence[Look]) -> Check:
    """Classify by strips and corners of the border alone."""
    found = _associate(np.stack([look.border for look in looks]), entries)
    name = entries[0].dataset
    paragraph = (
        f"A linear classifier saw only the outer 8 % of the images of {name} and their corners: grey level, spread, "
        "black and white shares, sharpness. No lung is there, so what it can tell is the source: equipment, "
        "collimation, letters, file format. A network finds the same and better (DeGrave et al., 2021). "
    )
    if found.level() > Level.OK:
        paragraph += "Crop or mask borders, balance the sources, and test on data of another source than trained on."
    return _check(f"border {name}", "border alone predicts", found, paragraph)


def check_blur(entries: Sequence[AnnotatedImage], looks: Sequence[Look]) -> Check:
    """Classify by an 8 x 8 blur: the whole of it for the record, and its cells out of the reach of boxes for the level.

    A blur of the whole image may rightly show the disease, so its AUROC is reported and not judged.
    """
    blurred = np.stack([look.blur for look in looks])
    outside = out_of_reach(entries)
    whole = _associate(blurred.reshape(len(looks), -1), entries)
    found = _associate(blurred[:, outside], entries)
    name = entries[0].dataset
    paragraph = (
        f"The images of {name} were blurred to {CELLS} x {CELLS} cells, of which {int(outside.sum())} hardly ever "
        "touch a box; a linear classifier saw only these. The blur of the whole image, in which large findings can "
        f"still be seen, predicts {whole.text()}: a model that does no better has learned no more than coarse shades. "
    )
    if found.level() > Level.OK:
        paragraph += "Outside the boxes no shade should tell the class: positioning, exposure or source does."
    check = _check(f"blur {name}", "blur outside boxes predicts", found, paragraph)
    return Check(
        check.name, check.level, check.summary, paragraph, {**check.numbers, "whole": whole.numbers()}, check.tables
    )


def check_markers(entries: Sequence[AnnotatedImage], looks: Sequence[Look]) -> Check:
    """Classify by the number, size and place of burned-in letters."""
    found = _associate(np.stack([marker_features(look.markers) for look in looks]), entries)
    name = entries[0].dataset
    marked = sum(len(look.markers) > 0 for look in looks)
    per_class = Counter(
        label for entry, look in zip(entries, looks, strict=True) if len(look.markers) for label in entry.classes
    )
    totals = Counter(label for entry in entries for label in entry.classes)
    rows = [
        (name, label, totals[label], per_class[label], round(per_class[label] / totals[label], 4))
        for label in sorted(totals)
    ]
    paragraph = (
        f"Regions that look like letters or plates (small, even, sharp-edged and bright) were found on {marked} of "
        f"{len(entries)} images of {name}; a linear classifier saw only how many, how large and where. The search "
        "misses faint letters and takes some wires for letters. "
    )
    if found.level() > Level.OK:
        paragraph += "Their presence tells the class: prepare again with --mask-markers, and look at the result."
    check = _check(f"markers {name}", f"{marked} of {len(entries)} images marked; markers predict", found, paragraph)
    table = Table(f"markers-{name}", ("dataset", "class", "images", "marked", "share"), rows)
    return Check(
        check.name, check.level, check.summary, paragraph, {**check.numbers, "marked": marked}, (table, *check.tables)
    )


def check_sources(entries: Sequence[AnnotatedImage], looks: Sequence[Look]) -> Check:
    """Whether data sets differ in their share of positives, and can be told apart by their borders."""
    names = list(dict.fromkeys(entry.dataset for entry in entries))
    counts = _counts(entries, names, lambda entry: entry.positive)
    shared = _shared(entries, names)
    shares = {"": counts} | {one: _counts(entries, names, lambda e, one=one: one in e.classes) for one in shared}
    features = np.stack([look.border for look in looks])
    found = associate(features, [(entry.dataset,) for entry in entries], leakage_groups(entries))
    told = {name: _difference(own) for name, own in shares.items()}
    # the share that differs most, corrected for looking at all of them
    most = max(told, key=lambda name: told[name][0])
    cramer, p = told[most][0], min(1.0, told[most][1] * len(told))
    apart = found.best is not None and found.p <= MAX_P and found.best.low >= MIN_SOURCE_AUROC
    level = Level.WARNING if apart and p <= MAX_P and cramer >= MIN_CRAMER else Level.OK
    summary = (
        f"border tells the data set: {found.text()}; share of {most or 'positives'} differs: Cramer's V {cramer:.2f}"
    )
    paragraph = (
        "Where data sets are used together, a model that can tell them apart may answer with the share of positives "
        "of each. The table shows these shares; the classifier saw the border alone. Both together make the source a "
        "shortcut: train on one data set at a time, or take positives and negatives of each in equal parts."
    )
    rows = [
        (name, *map(int, own), round(float(own[0] / own.sum()), 4)) for name, own in zip(names, counts, strict=True)
    ]
    numbers = {**found.numbers(), "cramers_v": cramer, "chi2_p": p}
    tables = [Table("sources", ("dataset", "positive", "negative", "share"), rows)]
    if shared:
        by_class = [
            (label, name, *map(int, own), round(float(own[0] / own.sum()), 4))
            for label in shared
            for name, own in zip(names, shares[label], strict=True)
        ]
        numbers |= {"class": most or None}
        tables.append(Table("sources-classes", ("class", "dataset", "with", "without", "share"), by_class))
    return Check("sources", level, summary, paragraph, numbers, tuple(tables))


def _shared(entries: Sequence[AnnotatedImage], names: Sequence[str]) -> list[str]:
    """The classes of boxes that every data set has, where there are several."""
    known = [dict.fromkeys(name for e in entries if e.dataset == one for name in e.categories) for one in names]
    found = [name for name in known[0] if all(name in own for own in known)]
    return found if len(found) > 1 else []


def _counts(
    entries: Sequence[AnnotatedImage], names: Sequence[str], holds: Callable[[AnnotatedImage], bool]
) -> NDArray[np.int64]:
    """(D, 2) images of each data set of which something holds, and others."""
    return np.array(
        [[sum(e.dataset == name and holds(e) == side for e in entries) for side in (True, False)] for name in names]
    )


def _difference(counts: NDArray[np.int64]) -> tuple[float, float]:
    """Cramer's V of a share and data sets, and p; 0 and 1 where all images are alike."""
    if not (counts.sum(0) > 0).all():
        return 0.0, 1.0
    return float(contingency(counts, method="cramer")), float(chi2_contingency(counts).pvalue)


def out_of_reach(entries: Sequence[AnnotatedImage]) -> NDArray[np.bool_]:
    """(8, 8) cells that boxes hardly ever touch; without any box the outermost cells."""
    boxed = [entry for entry in entries if len(entry.boxes)]
    if not boxed:
        cells = np.ones((CELLS, CELLS), bool)
        cells[1:-1, 1:-1] = False
        return cells
    touched = np.zeros((CELLS, CELLS))
    for entry in boxed:
        own = np.zeros((CELLS, CELLS), bool)
        cells = normalised(entry.boxes, entry.size) * CELLS
        for low, high in zip(np.floor(cells[:, :2]).clip(0), np.ceil(cells[:, 2:]), strict=True):
            own[int(low[1]) : int(high[1]), int(low[0]) : int(high[0])] = True
        touched += own
    return touched <= OUT_OF_REACH * len(boxed)


def marker_features(markers: NDArray[np.float64]) -> NDArray[np.float64]:
    """(18,) number of regions, their area, and which of 4 x 4 cells hold the centre of one."""
    cells = np.zeros((_MARKER_CELLS, _MARKER_CELLS))
    centres = (markers[:, :2] + markers[:, 2:]) / 2 * _MARKER_CELLS
    columns, rows = centres.astype(int).clip(0, _MARKER_CELLS - 1).T
    cells[rows, columns] = 1
    return np.array([min(len(markers), 5), areas(markers).sum(), *cells.ravel()])


def _associate(features: NDArray[np.floating], entries: Sequence[AnnotatedImage]) -> Association:
    return associate(features, [entry.classes for entry in entries], leakage_groups(entries))


def _check(name: str, what: str, found: Association, paragraph: str) -> Check:
    summary = f"{what} {found.text()}" if found.best else f"{found.text()}"
    tables = found.table(f"{name.replace(' ', '-', 1)}-classes")
    return Check(name, found.level(), summary, paragraph, found.numbers(), tables)
