"""Pictures of an ensemble's findings: truth, members and the fusion on every image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from covidmm.errors import DataError
from covidmm.findings import Detections
from covidmm.jobs.folder_run import Outcome, joined
from covidmm.jobs.folder_truth import Truth
from covidmm.reports.drawn_images import DrawnImage, above, least_scores
from covidmm.reports.pictures import draw_all, shown_boxes


def draw_ensemble(
    folder: Path,
    outcome: Outcome,
    truth: Truth,
    thresholds: Mapping[str, float],
    per_class: Mapping[str, Mapping[str, float]],
    name: str,
) -> None:
    """Draw every image of a prepared folder, and twelve of them on ``grid.png``.

    Args:
        folder: made where it is missing.
        outcome: what was found.
        truth: of the same images.
        thresholds: of every member and of the ensemble; boxes below are not drawn.
        per_class: the same by class, where there are several.
        name: the ensemble's, among the thresholds.

    Raises:
        DataError: the folder is not a prepared one, so it holds no pictures to draw on.
    """
    if outcome.run.cases.annotations is None:
        raise DataError(f"{outcome.run.cases.source}: pictures are drawn of prepared folders only")
    classes = outcome.run.classes.names
    least = {one: least_scores(classes, value, per_class.get(one)) for one, value in thresholds.items()}
    drawn = {}
    rows = zip(outcome.run.cases.images, outcome.fused, joined(outcome.members), strict=True)
    for case, (image, fused), (_, members) in rows:
        if image.error:
            continue
        drawn[image.image_id] = DrawnImage(
            name=image.image_id,
            size=(image.height, image.width),
            found=Detections.none(),
            truth=truth[image.image_id].original_truth,
            members={member: _above(one, least[member]) for member, one in members.items()},
            study_class=truth[image.image_id].study_class,
            path=case.path,
            classes=classes,
        ).compared(_above(fused, least[name]))
    shown = shown_boxes(thresholds[name], per_class.get(name))
    draw_all(drawn, folder, f"{' + '.join(outcome.members)} fused, {shown}")


def _above(found: Detections, least: NDArray[np.float64]) -> Detections:
    kept = above(found.scores, found.labels, least)
    return Detections(found.boxes[kept], found.scores[kept], found.labels[kept])
