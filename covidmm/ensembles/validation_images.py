"""Validation images for the choice of a fusion, and the metric by which it is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from covidmm.ensembles.pooled_boxes import NormBoxes, pooled
from covidmm.errors import DataError
from covidmm.evaluation.detection import rank
from covidmm.findings import Detections
from covidmm.utils.boxes import normalised


@dataclass(frozen=True)
class FusionCase:
    """One image of the validation split with what the members found, of one class.

    Attributes:
        members: what each detector found, boxes in pixels of the original image.
        size: its height and width.
        truths: (N, 4) true boxes x1 y1 x2 y2 in the same pixels.
        group: images of one group, a study or a patient, stay on one side of a cross-validation; without one an
            image is a group of its own.
    """

    members: Sequence[Detections]
    size: tuple[int, int]
    truths: ArrayLike
    group: str = ""

    @cached_property
    def pool(self) -> NormBoxes:
        """The members' boxes, pooled once for any number of fusions."""
        return pooled(self.members, self.size)

    @cached_property
    def truths_norm(self) -> NDArray[np.float64]:
        """(N, 4) true boxes as shares of the image."""
        return normalised(self.truths, self.size)


@dataclass(frozen=True)
class ClassCases:
    """The validation images for the choice of one class's fusion.

    Attributes:
        voters: the names of the members that find the class, in the order of each case's members.
        cases: the images, those without a true box of the class included.
    """

    voters: tuple[str, ...]
    cases: Sequence[FusionCase]

    @property
    def groups_with_boxes(self) -> int:
        """How many groups have a true box of the class."""
        return len({case.group for case in self.cases if len(case.truths)})


def require_cases(cases: Sequence[FusionCase]) -> int:
    """The number of members, the same in all cases.

    Raises:
        DataError: no case, no true box in any of them, cases with different numbers of members, boxes of more than
            one class, or true boxes that are not finite and (N, 4).
    """
    if not cases:
        raise DataError("a fusion cannot be chosen without validation images")
    count = len(cases[0].members)
    for number, case in enumerate(cases):
        if len(case.members) != count or not count:
            raise DataError(f"case {number}: {len(case.members)} members, where case 0 has {count}")
        truth = np.asarray(case.truths, np.float64)
        if truth.size and (truth.ndim != 2 or truth.shape[1] != 4 or not np.isfinite(truth).all()):
            raise DataError(f"case {number}: true boxes must be finite and (N, 4), not {truth.shape}")
    if not any(len(case.truths_norm) for case in cases):
        raise DataError("a fusion cannot be chosen on images of which none has a true box")
    classes = np.unique(np.concatenate([case.pool.labels for case in cases]))
    if len(classes) > 1:
        raise DataError(f"a fusion is chosen for one class, but the boxes are of {len(classes)}: {classes.tolist()}")
    return count


def group_numbers(cases: Sequence[FusionCase]) -> NDArray[np.int64]:
    """(images,) the group of each image as a number."""
    names = [case.group or f"\0{number}" for number, case in enumerate(cases)]
    return np.unique(names, return_inverse=True)[1]


def mean_ap_50(fused: Sequence[NormBoxes], cases: Sequence[FusionCase]) -> float:
    """COCOeval's AP at IoU 0.50 of the fused boxes of each case."""
    found = [(one.boxes, one.scores) for one in fused]
    return rank(found, [case.truths_norm for case in cases], coco=True).coco_ap()
