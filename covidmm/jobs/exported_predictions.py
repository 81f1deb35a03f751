"""The boxes of an ensemble over a folder, in other programs' layouts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from covidmm.datasets.annotated_image import AnnotatedImage
from covidmm.jobs.folder_run import Outcome
from covidmm.outputs.prediction_export import PredictedImage, export_predictions
from covidmm.utils.boxes import rescaled


def export_outcome(outcome: Outcome, folder: Path, layouts: Sequence[str], threshold: float) -> list[str]:
    """Write what the ensemble found on every readable file into ``folder/export_LAYOUT``.

    Args:
        outcome: what the ensemble made of the folder.
        folder: where the folders go.
        layouts: of :data:`covidmm.outputs.prediction_export.PREDICTION_LAYOUTS`.
        threshold: boxes of lower confidence are left out.

    Returns:
        What was written and left out, for people.

    Raises:
        DataError: a folder holds something else than an export.
    """
    images, below, unread = [], 0, 0
    source = outcome.run.cases.source
    for case, (entry, found) in zip(outcome.run.cases.images, outcome.fused, strict=True):
        if entry.error:
            unread += 1
            continue
        kept = found.scores >= threshold
        below += int((~kept).sum())
        original = entry.height, entry.width
        size = case.size or original
        boxes = rescaled(found.boxes[kept].astype(float), original, size)
        name = case.path.relative_to(source).as_posix()
        image = AnnotatedImage(
            case.path, case.image_id, case.study_id, boxes, found.labels[kept], size=size, coco={"file_name": name}
        )
        images.append(PredictedImage(image, found.scores[kept]))
    lines = [export_predictions(images, outcome.run.classes.names, folder / f"export_{one}", one) for one in layouts]
    if below:
        lines.append(f"note: {below} boxes below {threshold:g} were left out (--export-threshold)")
    if unread:
        lines.append(f"note: {unread} files without a prediction are in no export")
    return lines
