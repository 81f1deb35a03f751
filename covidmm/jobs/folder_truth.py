"""What is known of a folder's images and studies, in pixels of the original images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covidmm.datasets.image_folders import ImageFolder
from covidmm.datasets.prepared_folder import read_annotations
from covidmm.errors import DataError
from covidmm.findings import STUDY_CLASSES
from covidmm.prepare.layouts.siim import IMAGE_CSV, STUDY_CSV, read_images, read_studies
from covidmm.utils.boxes import corners


@dataclass(frozen=True)
class Truth:
    """The labels of a folder.

    Attributes:
        boxes: image id to (N, 4) float64 boxes in pixels of the original.
        studies: study id to its class; empty where the data set has none.
    """

    boxes: Mapping[str, NDArray[np.float64]]
    studies: Mapping[str, str]


def read_truth(cases: ImageFolder) -> Truth:
    """The labels of every image in a folder: from the annotations of a prepared one, the tables of a raw SIIM one.

    Raises:
        DataError: the folder has no labels, or not those of all its images.
    """
    if cases.annotations is not None:
        return _of_annotations(cases.annotations)
    tables = cases.source / IMAGE_CSV, cases.source / STUDY_CSV
    if cases.split != "train" or not all(path.is_file() for path in tables):
        raise DataError(f"{cases.source}: cannot be scored, it is not prepared and has no {IMAGE_CSV} of its images")
    images, studies = read_images(tables[0]), read_studies(tables[1])
    for table, path, ids in (
        (images, tables[0], {case.image_id for case in cases.images}),
        (studies, tables[1], {case.study_id for case in cases.images}),
    ):
        if missing := sorted(ids - set(table.rows)):
            raise DataError(f"{path}: has no usable row for {len(missing)} of {len(ids)} ids, such as '{missing[0]}'")
        if strange := sorted(set(table.rows) - ids):
            raise DataError(
                f"{path}: {len(strange)} of its ids have no image in the folder, such as '{strange[0]}'; "
                "nothing is scored on a part of the labels"
            )
    boxes = {image_id: corners(row.boxes) for image_id, row in images.rows.items()}
    return Truth(boxes, dict(studies.rows))


def _of_annotations(path: Path) -> Truth:
    content = read_annotations(path)
    grouped: dict[int, list[Any]] = {}
    for annotation in content["annotations"]:
        grouped.setdefault(annotation["image_id"], []).append(annotation["bbox"])
    boxes, studies = {}, {}
    for image in content["images"]:
        scale = [image["original_width"] / image["width"], image["original_height"] / image["height"]] * 2
        boxes[image["image_id"]] = corners(grouped.get(image["id"], [])) * scale
        if image["study_class"] is not None:
            if image["study_class"] not in STUDY_CLASSES:
                raise DataError(f"{path}: image {image['id']}: unknown study class '{image['study_class']}'")
            studies[image["study_id"]] = image["study_class"]
    return Truth(boxes, studies)
