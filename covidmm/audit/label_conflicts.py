"""Finds labels that contradict boxes, other images of the study, or copies of the picture."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from covidmm.audit.checks import Check, Level, Table
from covidmm.datasets.annotated_image import AnnotatedImage
from covidmm.prepare.layouts.nih import NO_FINDING
from covidmm.prepare.near_duplicates import Pair
from covidmm.utils.boxes import xywh

_RSNA_POSITIVE = "Lung Opacity"


class Conflict(NamedTuple):
    """One contradiction."""

    level: Level
    kind: str
    dataset: str
    study: str
    image: str
    detail: str


def check_conflicts(entries: Sequence[AnnotatedImage], pairs: Sequence[Pair]) -> Check:
    """Classes that contradict the boxes, the other images of their study, or another copy of the picture.

    Args:
        entries: of all data sets.
        pairs: of images that show one picture.
    """
    found = sorted({*_studies(entries), *_boxes(entries), *_findings(entries), *_copies(entries, pairs)})
    counts = Counter(conflict.kind for conflict in found)
    level = max((conflict.level for conflict in found), default=Level.OK)
    summary = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())) or "labels and boxes agree"
    paragraph = (
        "A negative study with a box, a study of typical appearance without any, an image of RSNA's class Lung "
        "Opacity without a box (or one with a box in another class), a study with two classes and a box outside its "
        "image contradict themselves: one of the two labels is wrong, and a model is taught both. An indeterminate or "
        "atypical study without a box, and two copies of one picture of which only one is called positive, may be "
        "as the readers meant it: a warning."
    )
    if any(len(entry.categories) > 1 for entry in entries):
        paragraph += (
            " So does an image whose labels say that nothing was found, and that has a box, and one with a box of a "
            "class that its labels lack though they name it on other images. Of copies with boxes of several classes, "
            "those are named that do not have the same classes."
        )
    if found:
        paragraph += " conflicts.csv lists them; look at the images and correct the label files."
    rows = [(one.level.label, one.kind, one.dataset, one.study, one.image, one.detail) for one in reversed(found)]
    columns = ("level", "kind", "dataset", "study", "image_id", "detail")
    table = Table("conflicts", columns, rows)
    return Check("labels", level, summary, paragraph, dict(sorted(counts.items())), (table,))


def _studies(entries: Sequence[AnnotatedImage]) -> Iterator[Conflict]:
    studies: dict[tuple[str, str], list[AnnotatedImage]] = defaultdict(list)
    for entry in entries:
        if entry.study_class:
            studies[entry.dataset, entry.study_id].append(entry)
    for (dataset, study), own in studies.items():
        classes = sorted({entry.study_class for entry in own})
        boxes = sum(len(entry.boxes) for entry in own)
        if len(classes) > 1:
            yield Conflict(Level.FAULT, "study with two classes", dataset, study, "", ", ".join(classes))
        elif classes == ["negative"] and boxes:
            yield Conflict(Level.FAULT, "negative study with boxes", dataset, study, "", f"{boxes} boxes")
        elif classes != ["negative"] and not boxes:
            level = Level.FAULT if classes == ["typical"] else Level.WARNING
            yield Conflict(level, f"{classes[0]} study without a box", dataset, study, "", f"{len(own)} images")


def _boxes(entries: Sequence[AnnotatedImage]) -> Iterator[Conflict]:
    for entry in entries:
        where = entry.dataset, entry.study_id, entry.image_id
        rsna = entry.coco.get("rsna_class")
        if rsna == _RSNA_POSITIVE and not len(entry.boxes):
            yield Conflict(Level.FAULT, "Lung Opacity without a box", *where, "")
        elif rsna and rsna != _RSNA_POSITIVE and len(entry.boxes):
            yield Conflict(Level.FAULT, "box in an image without Lung Opacity", *where, f"{rsna}, {len(entry.boxes)}")
        limits = entry.size[::-1]
        for (x, y, width, height), corner in zip(xywh(entry.boxes).tolist(), entry.boxes[:, 2:], strict=True):
            # prepare rounds to a thousandth of a pixel
            beyond = (corner > np.add(limits, 0.01)).any()
            if not (width > 0 and height > 0 and x >= 0 and y >= 0) or beyond:
                detail = f"x {x:g} y {y:g} width {width:g} height {height:g}"
                yield Conflict(Level.FAULT, "box outside its image or empty", *where, detail)


def _findings(entries: Sequence[AnnotatedImage]) -> Iterator[Conflict]:
    """Boxes of classes that the labels of their image do not have."""
    named: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        named[entry.dataset].update(entry.findings or ())
    for entry in entries:
        boxed = sorted(_boxed(entry))
        if entry.findings is None or not boxed:
            continue
        where = entry.dataset, entry.study_id, entry.image_id
        if entry.findings == (NO_FINDING,):
            yield Conflict(Level.FAULT, f"boxes on an image of {NO_FINDING}", *where, ", ".join(boxed))
        elif lacking := [name for name in boxed if name in named[entry.dataset] and name not in entry.findings]:
            detail = f"{', '.join(lacking)}; labels {'|'.join(entry.findings)}"
            yield Conflict(Level.FAULT, "box of a class that the labels lack", *where, detail)


def _boxed(entry: AnnotatedImage) -> set[str]:
    return {entry.categories[label] for label in (*entry.labels.tolist(), *entry.crowd_labels.tolist())}


def _differ(one: AnnotatedImage, other: AnnotatedImage) -> bool:
    """Whether two copies have different labels: as far as both data sets know them, of boxes of several classes."""
    shared = set(one.categories) & set(other.categories)
    by_box = not (one.study_class or other.study_class or one.findings or other.findings)
    if by_box and len(shared) > 1:
        return _boxed(one) & shared != _boxed(other) & shared
    return one.positive != other.positive


def _copies(entries: Sequence[AnnotatedImage], pairs: Sequence[Pair]) -> Iterator[Conflict]:
    for pair in pairs:
        one, other = entries[pair.first], entries[pair.second]
        if _differ(one, other) and one.study_id != other.study_id:
            detail = f"{'|'.join(one.classes)}; {'|'.join(other.classes)} in {other.name}"
            yield Conflict(Level.WARNING, "copies of two labels", one.dataset, one.study_id, one.image_id, detail)
