"""What a detector of several classes does wrong: confusion between classes, and types of errors.

The types are those of TIDE (Bolya et al., ECCV 2020, section 2.1), with IoU 0.5 for a box in the right place (t_f) and
0.1 for one that lies on nothing (t_b): counted at the operating thresholds, not weighed by what they cost in AP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covidmm.datasets.annotated_image import TrueBoxes
from covidmm.evaluation.coco_dicts import Labelled, found_by_image
from covidmm.evaluation.detection import IOU_THRESHOLD, claimed, match_classes
from covidmm.utils.boxes import iou

#: A box that overlaps every true one by less lies on background (t_b).
BACKGROUND_IOU = 0.1
#: Of false positives, in the order in which they are tried; and of true boxes that nothing found.
ERRORS = ("localisation", "classification", "duplicate", "background", "both", "missed")


def class_errors(
    ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], thresholds: Mapping[str, float]
) -> dict[str, Any]:
    """Confusion and errors of a detector, over all images.

    Args:
        ground_truth: a COCO detection file's content.
        results: a COCO results list of its images and categories.
        thresholds: the least confidence of a box, by class; a class that it does not name has no box.

    Returns:
        ``confusion``: ``classes``, and ``counts`` as rows: of the true class, the last one of background; columns are
        the predicted class, the last one true boxes that nothing found. A box goes to the true one, of any class, that
        it overlaps most, as in :func:`~covidmm.evaluation.detection.match`. ``errors``: by class, how many of each of
        :data:`ERRORS`; a false positive counts for the class that was predicted, a missed box for its own.
    """
    names = [category["name"] for category in ground_truth["categories"]]
    ids = [category["id"] for category in ground_truth["categories"]]
    images = [image["id"] for image in ground_truth["images"]]
    parts = ([one for one in ground_truth["annotations"] if bool(one.get("iscrowd")) == crowd] for crowd in (0, 1))
    real, crowds = (found_by_image(own, images, ids) for own in parts)
    least = np.array([thresholds.get(name, np.inf) for name in names])
    confusion = np.zeros((len(names) + 1, len(names) + 1), np.int64)
    errors = np.zeros((len(names), len(ERRORS)), np.int64)
    for found, (boxes, _, labels), (regions, _, kinds) in zip(
        found_by_image(results, images, ids), real, crowds, strict=True
    ):
        kept = found[1] >= least[found[2]]
        predicted = found[0][kept], found[1][kept], found[2][kept]
        truth = TrueBoxes(boxes, labels, regions, kinds)
        confusion += _confusion(predicted, truth, len(names))
        errors += _errors(predicted, truth, len(names))
    return {
        "confusion": {"classes": names, "counts": confusion.tolist()},
        "errors": {name: dict(zip(ERRORS, row, strict=True)) for name, row in zip(names, errors.tolist(), strict=True)},
    }


def _confusion(found: Labelled, truth: TrueBoxes, classes: int) -> NDArray[np.int64]:
    """(classes + 1, classes + 1) counts of one image; what lies in a crowd of its class counts for nothing."""
    boxes, scores, labels = found
    counts = np.zeros((classes + 1, classes + 1), np.int64)
    owner = claimed(boxes, scores, truth.boxes)
    _, ignored = match_classes(boxes, scores, labels, truth)
    for label, place, crowd in zip(labels.tolist(), owner.tolist(), ignored.tolist(), strict=True):
        if place >= 0 or not crowd:
            counts[truth.labels[place] if place >= 0 else classes, label] += 1
    np.add.at(counts, (np.delete(truth.labels, owner[owner >= 0]), classes), 1)
    return counts


def _errors(found: Labelled, truth: TrueBoxes, classes: int) -> NDArray[np.int64]:
    """(classes, errors) counts of one image."""
    boxes, scores, labels = found
    counts = np.zeros((classes, len(ERRORS)), np.int64)
    hits, ignored = match_classes(boxes, scores, labels, truth)
    overlaps = iou(boxes, truth.boxes) if len(boxes) and len(truth) else np.zeros((len(boxes), len(truth)))
    same = labels[:, None] == truth.labels[None]
    covered = np.zeros(len(truth), bool)  # by a hit, or by an error that points at it: such a box is not missed
    for index in np.flatnonzero(hits):
        covered[np.where(same[index], overlaps[index], -1).argmax()] = True
    for index in np.flatnonzero(~hits & ~ignored):
        own, other = (np.where(mask, overlaps[index], -1) for mask in (same[index], ~same[index]))
        best, strange = own.max(initial=-1), other.max(initial=-1)
        if BACKGROUND_IOU <= best <= IOU_THRESHOLD:
            kind, at = "localisation", own.argmax()
        elif strange > IOU_THRESHOLD:
            kind, at = "classification", other.argmax()
        elif best > IOU_THRESHOLD:
            kind, at = "duplicate", None
        else:
            kind, at = ("background" if max(best, strange) < BACKGROUND_IOU else "both"), None
        counts[labels[index], ERRORS.index(kind)] += 1
        if at is not None:
            covered[at] = True
    np.add.at(counts, (truth.labels[~covered], ERRORS.index("missed")), 1)
    return counts
