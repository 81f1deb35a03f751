"""Pictures of an ensemble's findings: truth, members and the fusion on every image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from covidmm.errors import DataError
from covidmm.evaluation.detection import match
from covidmm.jobs.folder_run import Outcome, joined
from covidmm.jobs.folder_truth import Truth
from covidmm.reports.drawn_images import Case, choose
from covidmm.reports.grid import draw_case, draw_sheet


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
    cases = []
    rows = zip(outcome.run.cases.images, outcome.fused, joined(outcome.members), strict=True)
    for case, (image, fused), (_, members) in rows:
        if image.error:
            continue
        kept = fused.scores >= thresholds[name]
        boxes, scores = fused.boxes[kept].astype(float), fused.scores[kept].astype(float)
        own = truth[image.image_id].original_boxes
        entry = {
            "id": len(cases) + 1,
            "image_id": image.image_id,
            "study_class": truth[image.image_id].study_class,
            "height": image.height,
            "width": image.width,
        }
        shown = {member: found.boxes[found.scores >= thresholds[member]] for member, found in members.items()}
        cases.append(Case(case.path, entry, own, boxes, scores, match(boxes, scores, own), shown))
    for one in cases:
        draw_case(one, folder / f"{one.name}.png")
    title = f"{' + '.join(outcome.members)} fused, boxes of confidence {thresholds[name]:.2f} and above"
    draw_sheet(choose(cases, 12), folder / "grid.png", title)
