"""Pictures of an ensemble's findings: truth, members and the fusion on every image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from covidmm.errors import DataError
from covidmm.findings import Detections
from covidmm.jobs.folder_run import Outcome, joined
from covidmm.jobs.folder_truth import Truth
from covidmm.reports.drawn_images import DrawnImage
from covidmm.reports.pictures import draw_all


def draw_ensemble(folder: Path, outcome: Outcome, truth: Truth, thresholds: Mapping[str, float], name: str) -> None:
    """Draw every image of a prepared folder, and twelve of them on ``grid.png``.

    Args:
        folder: made where it is missing.
        outcome: what was found.
        truth: of the same images.
        thresholds: of every member and of the ensemble; boxes below are not drawn.
        name: the ensemble's, among the thresholds.

    Raises:
        DataError: the folder is not a prepared one, so it holds no pictures to draw on.
    """
    if outcome.run.cases.annotations is None:
        raise DataError(f"{outcome.run.cases.source}: pictures are drawn of prepared folders only")
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
            members={member: _above(one, thresholds[member]) for member, one in members.items()},
            study_class=truth[image.image_id].study_class,
            path=case.path,
            classes=outcome.run.classes.names,
        ).compared(_above(fused, thresholds[name]))
    draw_all(
        drawn, folder, f"{' + '.join(outcome.members)} fused, boxes of confidence {thresholds[name]:.2f} and above"
    )


def _above(found: Detections, threshold: float) -> Detections:
    kept = found.scores >= threshold
    return Detections(found.boxes[kept], found.scores[kept], found.labels[kept])
