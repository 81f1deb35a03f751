"""Boxes that several readers drew on one image: fused, kept apart, or those that two of them drew."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from ensemble_boxes import weighted_boxes_fusion

from covidmm.prepare.samples import LabelledBox
from covidmm.utils.boxes import corners, xywh

SAME = 0.5
"""IoU above which boxes of one finding are the same one. Chosen here."""
NO_CONSENSUS = "on which no two readers drew the same box (--readers consensus)"
"""Why an image is left out whose boxes one reader each drew: it is no negative."""


class Drawn(NamedTuple):
    """What a reader drew."""

    reader: str
    box: LabelledBox


def combined(drawn: Sequence[Drawn], readers: str) -> list[LabelledBox]:
    """The boxes of an image.

    Args:
        drawn: by all readers, all in pixels or all in shares of the image.
        readers: one of :data:`covidmm.prepare.options.READERS`.
    """
    if readers == "all":
        return [one.box._replace(extra={**one.box.extra, "reader": one.reader}) for one in drawn]
    return [one for one in _merged(drawn) if readers == "merge" or one.extra["readers"] > 1]


def _merged(drawn: Sequence[Drawn]) -> list[LabelledBox]:
    """Boxes fused per finding, each reader counting the same; ``readers`` is how many drew it, from left to right."""
    if not drawn:
        return []
    boxes = corners([one.box.box for one in drawn])
    # Fusion wants shares of an image. Its size may be unknown yet, and any frame around the boxes gives the same.
    origin, extent = boxes[:, :2].min(0), boxes[:, 2:].max(0)
    frame = np.tile(origin, 2), np.tile(extent - origin, 2)
    rows: defaultdict[str, list[int]] = defaultdict(list)
    for row, one in enumerate(drawn):
        rows[one.reader].append(row)
    fused, agreement, labels = weighted_boxes_fusion(
        [((boxes[own] - frame[0]) / frame[1]).tolist() for own in rows.values()],
        [[1.0] * len(own) for own in rows.values()],
        [[drawn[row].box.label for row in own] for own in rows.values()],
        iou_thr=SAME,
        conf_type="box_and_model_avg",  # of equal scores of 1: the share of the readers
    )
    shares = drawn[0].box.shares
    sides = xywh(fused * frame[1] + frame[0]).round(9 if shares else 3).tolist()
    found = [
        LabelledBox(tuple(box), int(label), extra={"readers": round(share * len(rows))}, shares=shares)
        for box, share, label in zip(sides, agreement, labels, strict=True)
    ]
    return sorted(found, key=lambda one: (one.label, one.box))
