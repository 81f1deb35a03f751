"""Average precision by faster-coco-eval, as covidmm takes it, beside pycocotools on the same boxes."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from benchmarks.timing import time_in_turn
from covidmm.evaluation.detection import coco_precision

DISTRIBUTIONS = ("numpy", "faster-coco-eval", "pycocotools")
#: Side of the images and least and greatest side of a box, pixels.
SIDE, SIZES = 512, (40, 200)
#: pycocotools adds the least number above 1 to what it divides by.
ROUNDING = 1e-12


def benchmark(images: int = 1267, boxes: int = 100, repeats: int = 5) -> dict[str, Any]:
    """Time AP at IoU 0.50 and over 0.50:0.95 of random boxes, of which some lie on the truth.

    Args:
        images: how many, each with up to four true boxes.
        boxes: predictions of each.
        repeats: timed runs of each way, see :func:`~benchmarks.timing.time_in_turn`.

    Returns:
        Both seconds, their ratio (below 1: covidmm is faster), the greatest difference of a precision, and whether it
        is below :data:`ROUNDING` as ``accepted``.
    """
    truth, results = _random_set(np.random.default_rng(0), images, boxes)
    taken, plain_taken, ratio = time_in_turn(lambda: _ours(truth, results), lambda: _plain(truth, results), repeats)
    difference = float(np.abs(_ours(truth, results) - _plain(truth, results)).max())
    return {
        "images": images,
        "boxes": boxes,
        "repeats": repeats,
        "ratio": ratio,
        "seconds": taken,
        "plain_seconds": plain_taken,
        "largest_difference": difference,
        "accepted": difference < ROUNDING,
    }


def format_report(report: dict[str, Any]) -> str:
    """A line for people, ratio first."""
    verdict = "" if report["accepted"] else "  NOT EQUAL"
    return (
        f"{'ratio':>6} {'covidmm s':>10} {'pycocotools s':>14}  largest difference of a precision\n"
        f"{report['ratio']:>6.3f} {report['seconds']:>10.3f} {report['plain_seconds']:>14.3f}"
        f"  {report['largest_difference']:g}{verdict}"
    )


def _random_set(rng: np.random.Generator, images: int, boxes: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    annotations: list[dict[str, Any]] = []
    results = []
    for image in range(images):
        truths = [_box(rng) for _ in range(rng.integers(0, 5))]
        for box in truths:
            area = box[2] * box[3]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": 1,
                    "bbox": box,
                    "area": area,
                    "iscrowd": 0,
                }
            )
        near = [(np.array(box) + rng.normal(0, 15, 4)).clip(1).tolist() for box in truths]
        for box in (near + [_box(rng) for _ in range(boxes)])[:boxes]:
            results.append({"image_id": image, "category_id": 1, "bbox": box, "score": float(rng.uniform())})
    listed = [{"id": image, "width": SIDE, "height": SIDE} for image in range(images)]
    return {"images": listed, "annotations": annotations, "categories": [{"id": 1, "name": "opacity"}]}, results


def _box(rng: np.random.Generator) -> list[float]:
    return [*rng.uniform(0, SIDE - SIZES[1], 2), *rng.uniform(*SIZES, 2)]


def _ours(truth: dict[str, Any], results: list[dict[str, Any]]) -> Any:
    return coco_precision(truth, results, [1])


def _plain(truth: dict[str, Any], results: list[dict[str, Any]]) -> Any:
    document = COCO()
    document.dataset = {"info": {}, **truth, "annotations": [dict(one) for one in truth["annotations"]]}
    with contextlib.redirect_stdout(io.StringIO()):
        document.createIndex()
        evaluation = COCOeval(document, document.loadRes([dict(one) for one in results]), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"]
