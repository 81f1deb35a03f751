"""What detectors of several findings take for what, and the kinds of their errors, at the operating thresholds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from covidmm.datasets.annotated_image import TrueBoxes
from covidmm.evaluation.coco_dicts import Labelled
from covidmm.evaluation.detection import IOU_THRESHOLD, claims, in_own_crowd, match_classes
from covidmm.utils.boxes import iou

#: Kinds of errors (Bolya et al., TIDE: A General Toolbox for Identifying Object Detection Errors, ECCV 2020).
KINDS = ("classification", "localisation", "both", "duplicate", "background", "missed")
#: A prediction whose IoU with every true box is this or less lies on the background (t_b there; t_f is the score's).
BACKGROUND_IOU = 0.1


def confusion_counts(
    found: Sequence[Labelled], truths: Sequence[TrueBoxes], thresholds: Sequence[float]
) -> NDArray[np.int64]:
    """Which class is found where another is.

    In order of falling score, a prediction takes the true box, of any class, that it overlaps most among those with an
    IoU above 0.5 that no earlier one took; of equals, which several findings at one place are, one of its own class.
    One that takes none is of the background, or does not count if it lies in a crowd of its class.

    Args:
        found: per image, (N, 4) boxes, (N,) scores and (N,) class indices.
        truths: per image.
        thresholds: of the C classes, the scores that predictions need.

    Returns:
        (C + 1, C + 1) counts. Rows are true classes, the last background; columns predicted classes, the last missed.
    """
    background = len(thresholds)
    counts = np.zeros((background + 1, background + 1), np.int64)
    for (boxes, scores, labels), truth in _kept(found, truths, thresholds):
        order = np.argsort(-scores, kind="stable")
        overlaps = iou(boxes[order], truth.boxes)
        overlaps[overlaps <= IOU_THRESHOLD] = 0
        # the next number up decides between equals and nothing else
        own = (labels[order, None] == truth.labels) & (overlaps > 0)
        taken = claims(np.where(own, np.nextafter(overlaps, 2), overlaps), IOU_THRESHOLD)
        counted = (taken >= 0) | ~in_own_crowd(boxes, labels, truth)[order]
        true = np.append(truth.labels, background)[taken]
        np.add.at(counts, (true[counted], labels[order][counted]), 1)
        np.add.at(counts, (np.delete(truth.labels, taken[taken >= 0]), background), 1)
    return counts


def error_counts(
    found: Sequence[Labelled], truths: Sequence[TrueBoxes], thresholds: Sequence[float]
) -> NDArray[np.int64]:
    """How many false positives and missed boxes of each kind of TIDE (section 2.2 of the paper) there are.

    True positives are the score's. A false positive is the first of these that it fits, as in the authors' program:

    * localisation: the greatest IoU with a true box of its class is 0.1 to 0.5;
    * classification: that with one of another class is above 0.5;
    * duplicate: that with one of its class is above 0.5, and a surer prediction has it;
    * background: that with any is at most 0.1;
    * both, localisation and classification: any other.

    A true box is missed where no true positive has it and no error of classification or localisation is about it.

    Args:
        found: per image, (N, 4) boxes, (N,) scores and (N,) class indices.
        truths: per image.
        thresholds: of the C classes, the scores that predictions need.

    Returns:
        (C, 6) boxes by class, predicted or if missed true, and in the order of :data:`KINDS`.
    """
    counts = np.zeros((len(thresholds), len(KINDS)), np.int64)
    for (boxes, scores, labels), truth in _kept(found, truths, thresholds):
        hits, ignored = match_classes(boxes, scores, labels, truth)
        missed = unclaimed(boxes, labels, hits, truth)
        wrong = np.flatnonzero(~hits & ~ignored)
        # a column of no overlap, for images without a true box
        overlaps = np.pad(iou(boxes[wrong], truth.boxes), ((0, 0), (0, 1)))
        same = labels[wrong, None] == np.append(truth.labels, -1)
        own, other = np.where(same, overlaps, 0), np.where(same, 0, overlaps)
        near, far = own.max(1), other.max(1)
        localised = (near >= BACKGROUND_IOU) & (near <= IOU_THRESHOLD)
        confused = ~localised & (far > IOU_THRESHOLD)
        rest = [near > IOU_THRESHOLD, np.maximum(near, far) <= BACKGROUND_IOU]
        kinds = np.select([confused, localised, *rest], [0, 1, 3, 4], 2)
        np.add.at(counts, (labels[wrong], kinds), 1)
        missed[own[localised].argmax(1)] = False
        missed[other[confused].argmax(1)] = False
        np.add.at(counts, (truth.labels[missed], KINDS.index("missed")), 1)
    return counts


def unclaimed(boxes: NDArray, labels: NDArray, hits: NDArray[np.bool_], truth: TrueBoxes) -> NDArray[np.bool_]:
    """(M,) which true boxes of an image no true positive has.

    Args:
        boxes: (N, 4).
        labels: (N,) class indices.
        hits: (N,) true positives of :func:`~covidmm.evaluation.detection.match_classes`.
        truth: of the image.
    """
    left = np.ones(len(truth), bool)
    for box, label in zip(boxes[hits], labels[hits], strict=True):
        # a true positive claims the true box of its class that it overlaps most
        own = np.flatnonzero(truth.labels == label)
        left[own[iou([box], truth.boxes[own])[0].argmax()]] = False
    return left


def _kept(
    found: Sequence[Labelled], truths: Sequence[TrueBoxes], thresholds: Sequence[float]
) -> Iterator[tuple[Labelled, TrueBoxes]]:
    """Of each image, the predictions that reach the threshold of their class, and the truth."""
    for (boxes, scores, labels), truth in zip(found, truths, strict=True):
        kept = scores >= np.asarray(thresholds, np.float64)[labels]
        yield (boxes[kept], scores[kept], labels[kept]), truth
