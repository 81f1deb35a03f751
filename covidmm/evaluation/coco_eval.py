"""COCOeval, asked without files: pycocotools where matches are read, faster-coco-eval where only numbers are."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from faster_coco_eval import COCOeval_faster
    from pycocotools.cocoeval import COCOeval


def coco_matches(
    ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], iou_threshold: float
) -> dict[int, tuple[NDArray[np.float64], NDArray[np.bool_]]]:
    """Which predictions COCOeval takes for true at one IoU: what its AP there is made of.

    It differs from :func:`~covidmm.evaluation.detection.match`: a prediction whose best ground truth was claimed may
    take another one, an IoU of just the threshold is enough, and only the 100 surest of an image count.

    Args:
        ground_truth: a COCO detection file's content with one category.
        results: a COCO results list.
        iou_threshold: the least IoU.

    Returns:
        Image id -> (N,) falling scores and (N,) true positives, of the images that have a result.
    """
    if not results:
        return {}
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = coco_evaluation(ground_truth, results)
        evaluation.params.iouThrs = np.array([iou_threshold])
        evaluation.params.areaRng, evaluation.params.areaRngLbl = evaluation.params.areaRng[:1], ["all"]
        evaluation.params.maxDets = evaluation.params.maxDets[-1:]
        evaluation.evaluate()
    return {
        image["image_id"]: (np.array(image["dtScores"], np.float64), image["dtMatches"][0] > 0)
        for image in evaluation.evalImgs
        if image and image["dtIds"]
    }


def coco_evaluation(ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> COCOeval:
    """A COCOeval that nothing was evaluated with yet; it prints."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO()
    truth.dataset = _copied(ground_truth)
    truth.createIndex()
    return COCOeval(truth, truth.loadRes([dict(result) for result in results]), "bbox")


def fast_coco_evaluation(ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> COCOeval_faster:
    """The same in C++: equal numbers, but for rounding, in about a quarter of the time, but no matches to read."""
    from faster_coco_eval import COCO, COCOeval_faster

    truth = COCO(_copied(ground_truth))
    predictions = truth.loadRes([dict(result) for result in results])
    return COCOeval_faster(truth, predictions, "bbox", print_function=lambda *_: None)


def _copied(ground_truth: Mapping[str, Any]) -> dict[str, Any]:
    """Both packages write into the annotations."""
    annotations = [{"iscrowd": 0, **annotation} for annotation in ground_truth["annotations"]]
    return {"info": {}, **ground_truth, "annotations": annotations}
