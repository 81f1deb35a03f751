"""Truth and detections as the dicts of COCO files, and back."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covidmm.datasets.annotated_image import TrueBoxes
from covidmm.datasets.class_mapping import class_indices
from covidmm.errors import DataError
from covidmm.findings import OPACITY, Detections
from covidmm.utils.boxes import areas, corners, xywh
from covidmm.utils.fileio import json_value

#: (N, 4) boxes x1 y1 x2 y2 and (N,) scores of one image.
Found = tuple[NDArray, NDArray]
#: The same with (N,) class indices.
Labelled = tuple[NDArray, NDArray, NDArray]


def coco_truth(
    images: Sequence[Mapping[str, Any]],
    truths: Sequence[NDArray | TrueBoxes],
    categories: Sequence[str] = OPACITY,
) -> dict[str, Any]:
    """A COCO detection file's content; label 0 is the category 1.

    Args:
        images: entries of the images, each with its ``id``.
        truths: per image, (M, 4) boxes of the first category, or boxes and crowds with their labels.
        categories: names, numbered from 1.
    """
    boxes = []
    for image, given in zip(images, truths, strict=True):
        truth = given if isinstance(given, TrueBoxes) else TrueBoxes(given)
        for crowd, own, labels in ((0, truth.boxes, truth.labels), (1, truth.crowds, truth.crowd_labels)):
            boxes += [
                {"image_id": image["id"], "category_id": label + 1, "bbox": box, "area": area, "iscrowd": crowd}
                for box, area, label in zip(xywh(own).tolist(), areas(own).tolist(), labels.tolist(), strict=True)
            ]
    return {
        "images": list(images),
        "annotations": [{"id": number, **box} for number, box in enumerate(boxes, start=1)],
        "categories": [{"id": number, "name": name} for number, name in enumerate(categories, start=1)],
    }


def coco_results(images: Sequence[Mapping[str, Any]], found: Sequence[Detections]) -> list[dict[str, Any]]:
    """A COCO results list; label 0 is the category 1.

    Args:
        images: entries of the images, each with its ``id``.
        found: per image, what was detected.
    """
    return [
        {"image_id": image["id"], "category_id": label + 1, "bbox": box, "score": score}
        for image, one in zip(images, found, strict=True)
        for box, score, label in zip(xywh(one.boxes).tolist(), one.scores.tolist(), one.labels.tolist(), strict=True)
    ]


def by_image(entries: Sequence[Mapping[str, Any]], images: Sequence[int]) -> list[Found]:
    """Annotations or results of COCO files as (N, 4) boxes and (N,) scores of each image.

    Args:
        entries: each with ``image_id``, ``bbox`` and, if it is a result, ``score``.
        images: ids, in the order of the answer.
    """
    grouped = defaultdict(list)
    for entry in entries:
        grouped[entry["image_id"]].append(entry)
    return [
        (
            corners([entry["bbox"] for entry in grouped[image]]),
            np.array([entry.get("score", 1.0) for entry in grouped[image]], np.float64),
        )
        for image in images
    ]


def found_by_image(
    results: Sequence[Mapping[str, Any]],
    images: Sequence[int],
    category_ids: Sequence[int],
    kind: str = "prediction",
) -> list[Labelled]:
    """Results of COCO files as boxes, scores and class indices of each image.

    Args:
        results: as :func:`read_results` gives them.
        images: ids, in the order of the answer.
        category_ids: of the ground truth, by class index.
        kind: what one is called, for messages.

    Raises:
        DataError: a result of an image or a category that is not among them.
    """
    places = {number: place for place, number in enumerate(category_ids)}
    known = {"image": set(images), "category": places.keys()}
    for name, ids in known.items():
        if strange := {one[f"{name}_id"] for one in results} - ids:
            raise DataError(f"{kind} for {name} {min(strange)}, which the ground truth does not have")
    labels = defaultdict(list)
    for one in results:
        labels[one["image_id"]].append(places[one["category_id"]])
    rows = zip(images, by_image(results, images), strict=True)
    return [(boxes, scores, np.array(labels[image], np.int64)) for image, (boxes, scores) in rows]


def truths_by_image(
    annotations: Sequence[Mapping[str, Any]], images: Sequence[int], category_ids: Sequence[int]
) -> list[TrueBoxes]:
    """Annotations of COCO files as boxes and crowds of each image.

    Args:
        annotations: each with ``image_id``, ``category_id`` and ``bbox``.
        images: ids, in the order of the answer.
        category_ids: by class index.

    Raises:
        DataError: an annotation of an image or a category that is not among them.
    """
    kinds = ([one for one in annotations if bool(one.get("iscrowd")) == crowd] for crowd in (False, True))
    rows = zip(*(found_by_image(own, images, category_ids, "annotation") for own in kinds), strict=True)
    return [TrueBoxes(boxes, labels, crowds, of_crowds) for (boxes, _, labels), (crowds, _, of_crowds) in rows]


def read_results(path: Path) -> list[dict[str, Any]]:
    """Read a COCO results list, as ``tools/test.py --out`` writes it.

    Raises:
        DataError: the file is missing, is no such list, or has a box or score that is not finite.
    """
    try:
        content = json_value(path.read_text())
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"{path}: is not JSON ({error})") from error
    if not isinstance(content, list):
        raise DataError(f"{path}: expected a COCO results list, got a {type(content).__name__}")
    try:
        results = [
            {
                **{key: int(one[key]) for key in ("image_id", "category_id")},
                "bbox": [float(value) for value in one["bbox"]],
                "score": float(one["score"]),
            }
            for one in content
        ]
    except (TypeError, KeyError, ValueError) as error:
        raise DataError(f"{path}: not a COCO results list ({type(error).__name__}: {error})") from error
    if any(len(one["bbox"]) != 4 or not 0 <= one["score"] <= 1 for one in results):
        raise DataError(f"{path}: expected boxes of four numbers and scores in 0..1")
    try:
        require_finite(results)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return results


def require_finite(results: Sequence[Mapping[str, Any]]) -> None:
    """Refuse what a diverged model predicts.

    Args:
        results: a COCO results list.

    Raises:
        DataError: a box or a score is infinite or not a number.
    """
    values = np.array([[*result["bbox"], result["score"]] for result in results], np.float64).reshape(-1, 5)
    broken = np.flatnonzero(~np.isfinite(values).all(1))
    if len(broken):
        result = results[broken[0]]
        raise DataError(
            f"prediction for image {result['image_id']}: box or score is not finite "
            f"(bbox {result['bbox']}, score {result['score']}); the model has diverged"
        )


def of_classes(
    path: Path,
    truth: dict[str, Any],
    evaluated: Collection[int],
    classes: Sequence[str] | None,
    class_map: Mapping[str, str | None] | None = None,
) -> dict[str, Any]:
    """A COCO file's content for some of its images, with the classes of a data set as its categories.

    A class has the id of its first category, or a new one if the file has none.

    Args:
        path: the file, for messages.
        truth: its content.
        evaluated: ids of the images.
        classes: names; None for all categories.
        class_map: name in the file -> name of the class; None leaves its boxes out.

    Raises:
        DataError: no category is one of the classes.
    """
    names = [one["name"] for one in truth["categories"]]
    if classes is None:
        classes = names
    indices = class_indices(str(path), names, classes, class_map or {}, absent=classes)
    if names and all(index is None for index in indices):
        raise DataError(f"{path}: has the categories {', '.join(names)}, none of the classes {', '.join(classes)}")
    first: dict[int, int] = {}
    ids: dict[int, int] = {}
    for index, category in zip(indices, truth["categories"], strict=True):
        if index is not None:
            ids[category["id"]] = first.setdefault(index, category["id"])
    unused = itertools.count(max((one["id"] for one in truth["categories"]), default=0) + 1)
    for index in range(len(classes)):
        first.setdefault(index, next(unused))
    return {
        **truth,
        "images": [image for image in truth["images"] if image["id"] in evaluated],
        "annotations": [
            {**one, "category_id": ids[one["category_id"]]}
            for one in truth["annotations"]
            if one["image_id"] in evaluated and one["category_id"] in ids
        ],
        "categories": [{"id": first[index], "name": name} for index, name in enumerate(classes)],
    }
