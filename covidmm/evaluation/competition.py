"""The challenge's metric, from two submissions: (4 study classes + none + opacity) / 6.

PASCAL VOC 2010's average precision at IoU > 0.5: the area under the precision envelope of a class's predictions, pooled
over all studies (or images) and sorted by confidence. Study classes and ``none`` have the unit box, so names match.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covidmm.datasets.annotated_image import AnnotatedImage
from covidmm.errors import DataError
from covidmm.evaluation.bootstrap import intervals, study_numbers
from covidmm.evaluation.detection import rank
from covidmm.evaluation.ranking import Ranking
from covidmm.findings import STUDY_CLASSES, Detections
from covidmm.outputs.kaggle import (
    IMAGE_CLASSES,
    IMAGE_SUFFIX,
    STUDY_SUFFIX,
    Submission,
    image_row,
    require_ids,
    study_row,
)
from covidmm.prepare.layouts.siim import IMAGE_CSV, STUDY_CSV, read_images, read_studies
from covidmm.utils.boxes import corners

CLASSES = (*STUDY_CLASSES, *IMAGE_CLASSES)


@dataclass(frozen=True)
class Labels:
    """The truth in the form of a submission, and which study each image belongs to.

    Attributes:
        rows: by id with suffix; scores do not count.
        study_of: image id to study id, without suffixes.
        source: where it comes from, for messages.
    """

    rows: Submission
    study_of: Mapping[str, str]
    source: str


def labels_of(images: Iterable[AnnotatedImage], source: str) -> Labels:
    """The truth from annotated images.

    Args:
        images: every image of their studies.
        source: where they come from.

    Raises:
        DataError: a study that has images and no class.
    """
    images = list(images)
    rows: dict[str, Any] = {}
    studies = {image.study_id: image.study_class for image in images}
    if missing := sorted(study for study, name in studies.items() if name is None):
        raise DataError(f"{source}: {len(missing)} studies have no class, such as '{missing[0]}'")
    for study, true in studies.items():
        row = study_row([float(name == true) for name in STUDY_CLASSES])
        rows[study + STUDY_SUFFIX] = [one for one in row if one.score]
    for image in images:
        own = image.original_boxes
        found = image_row(Detections(own, np.ones(len(own))), 0.0)[:-1] if len(own) else image_row(None)
        rows[image.image_id + IMAGE_SUFFIX] = found
    return Labels(rows, {image.image_id: image.study_id for image in images}, source)


def read_label_files(folder: str | Path) -> Labels:
    """The truth in ``train_image_level.csv`` and ``train_study_level.csv``.

    Raises:
        DataError: a file is missing, or has a row that cannot be used.
    """
    folder = Path(folder)
    images, studies = read_images(folder / IMAGE_CSV), read_studies(folder / STUDY_CSV)
    for table in (images, studies):
        if table.issues:
            issue = table.issues[0]
            raise DataError(f"{folder / issue.file}: {issue.field}: {issue.cause} ({len(table.issues)} unusable rows)")
    if empty := sorted(set(studies.rows) - {row.study_id for row in images.rows.values()}):
        raise DataError(f"{folder / STUDY_CSV}: {len(empty)} studies have no image, such as '{empty[0]}'")
    annotated = (
        AnnotatedImage(folder, image_id, row.study_id, corners(row.boxes), study_class=studies.rows.get(row.study_id))
        for image_id, row in images.rows.items()
    )
    return labels_of(annotated, str(folder))


def score_submission(
    labels: Labels, submission: Submission, name: str | Path = "submission", with_intervals: bool = False
) -> dict[str, Any]:
    """Score a submission.

    Args:
        labels: the truth.
        submission: what was predicted.
        name: of the submission, for messages.
        with_intervals: add ``score_interval`` and ``per_class_interval``, see :mod:`covidmm.evaluation.bootstrap`.

    Returns:
        ``score``, ``per_class`` (None where the truth lacks the class, which then does not count) and ``classes``,
        how many count.

    Raises:
        DataError: ids that are missing or that the truth does not have: nothing is scored on a part of it.
    """
    require_ids(submission, labels.rows, name, labels.source)
    clusters: dict[str, int] = {}
    numbers = study_numbers(list(labels.study_of.values()))
    for (image, study), number in zip(labels.study_of.items(), numbers, strict=True):
        clusters[study + STUDY_SUFFIX] = clusters[image + IMAGE_SUFFIX] = number
    rankings = {name: _ranking(name, labels.rows, submission, clusters) for name in CLASSES}

    def statistic(weights: NDArray[np.float64]) -> dict[str, float]:
        found = {name: ranking.voc_ap(weights) for name, ranking in rankings.items()}
        return {**found, "score": float(np.mean([value for value in found.values() if not np.isnan(value)]))}

    count = max(clusters.values()) + 1
    found = statistic(np.ones(count))
    per_class = {name: None if np.isnan(found[name]) else found[name] for name in CLASSES}
    result: dict[str, Any] = {
        "score": found["score"],
        "per_class": per_class,
        "classes": sum(value is not None for value in per_class.values()),
    }
    if with_intervals:
        ends = {key: list(pair) for key, pair in intervals(statistic, count).items()}
        result["score_interval"] = ends.pop("score")
        result["per_class_interval"] = ends
    return result


def _ranking(name: str, truth: Submission, submission: Submission, clusters: Mapping[str, int]) -> Ranking:
    suffix = STUDY_SUFFIX if name in STUDY_CLASSES else IMAGE_SUFFIX
    ids = [identifier for identifier in truth if identifier.endswith(suffix)]
    found = [_of_class(submission[identifier], name) for identifier in ids]
    wanted = [_of_class(truth[identifier], name)[0] for identifier in ids]
    return rank(found, wanted, [clusters[identifier] for identifier in ids])


def _of_class(row: Sequence[Any], name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    mine = [one for one in row if one.name == name]
    boxes = np.array([one.box for one in mine], np.float64).reshape(-1, 4)
    return boxes, np.array([one.score for one in mine], np.float64)
