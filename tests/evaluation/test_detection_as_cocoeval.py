"""The scorer beside pycocotools: matches, AP, resampled images, and intervals."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from covidmm.evaluation.bootstrap import study_numbers
from covidmm.evaluation.coco_dicts import coco_results, coco_truth
from covidmm.evaluation.detection import (
    average_precision,
    coco_match,
    coco_precision,
    match,
    rank,
    score_detections,
)
from covidmm.evaluation.detection_details import RESAMPLED, with_details
from covidmm.findings import Detections


def plain(truth, results):
    """COCOeval of pycocotools, evaluated and accumulated."""
    with contextlib.redirect_stdout(io.StringIO()):
        document = COCO()
        document.dataset = {"info": {}, **truth, "annotations": [{"iscrowd": 0, **a} for a in truth["annotations"]]}
        document.createIndex()
        evaluation = COCOeval(document, document.loadRes([dict(one) for one in results]), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def scene(seed, images=20, digits=6):
    """Crowded truths, and predictions that often overlap two of them: per image boxes and scores, and truths."""
    rng = np.random.default_rng(seed)
    found, truths = [], []
    for _ in range(images):
        truth = rng.uniform([0, 0, 80, 80], [60, 60, 140, 140], (rng.integers(0, 5), 4))
        other = rng.uniform([0, 0, 80, 80], [60, 60, 140, 140], (3, 4))
        boxes = np.vstack([truth * rng.normal(1, 0.1, truth.shape), other])
        for one in (truth, boxes):
            one[:, 2:] += one[:, :2]
        found.append((boxes, rng.random(len(boxes)).round(digits)))
        truths.append(truth)
    return found, truths


def as_coco(found, truths):
    """The same as dicts, scores not rounded to those of Detections."""
    images = [{"id": number} for number in range(1, len(truths) + 1)]
    empty = [Detections(boxes, np.zeros(len(boxes))) for boxes, _ in found]
    results = coco_results(images, empty)
    corners = np.concatenate([np.zeros((0, 4)), *(boxes for boxes, _ in found)])
    for result, (x1, y1, x2, y2), score in zip(
        results, corners.tolist(), np.concatenate([scores for _, scores in found]).tolist(), strict=True
    ):
        result |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}
    return coco_truth(images, truths), results


GRID = st.integers(0, 12)
BOXES = st.lists(st.tuples(GRID, GRID, GRID, GRID).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])), max_size=6)
IMAGES = st.lists(st.tuples(BOXES, BOXES, st.integers(1, 30), st.integers(0, 2**16)), min_size=1, max_size=5)


@given(IMAGES)
@settings(max_examples=150, deadline=None)
def test_odd_boxes_are_matched_and_ranked_as_by_pycocotools(images):
    """Equal scores and overlaps, boxes twice or without area, an IoU of one half, empty images, over 100 boxes."""
    found, truths = [], []
    for truth, boxes, times, seed in images:
        truths.append(np.array(truth, float).reshape(-1, 4))
        own = np.array(boxes, float).reshape(-1, 4).repeat(times, 0)
        found.append((own, np.random.default_rng(seed).integers(0, 8, len(own)) / 8))
    if not any(map(len, truths)) or not any(len(boxes) for boxes, _ in found):
        return
    evaluation = plain(*as_coco(found, truths))
    ranking = rank(found, truths, coco=True)
    assert ranking.coco_ap() == pytest.approx(evaluation.eval["precision"][0, :, 0, 0, -1].mean(), abs=1e-12)
    for seen in evaluation.evalImgs[: len(truths)]:  # of all sizes
        if seen is not None and seen["dtIds"]:
            index = seen["image_id"] - 1
            scores, hits = coco_match(*found[index], truths[index])
            assert scores.tolist() == seen["dtScores"]
            assert hits.tolist() == (seen["dtMatches"][0] > 0).tolist()


@pytest.mark.parametrize("seed", range(3))
def test_equal_scores_rank_as_in_pycocotools(seed):
    found, truths = scene(seed, digits=1)
    expected = average_precision(*as_coco(found, truths))[1]["mAP_50"]
    assert rank(found, truths, coco=True).coco_ap() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_a_resample_is_scored_as_pycocotools_scores_copied_images(seed):
    found, truths = scene(seed)
    ranked = rank(found, truths, coco=True)
    rng = np.random.default_rng(seed)
    for times in (np.ones(20, int), *(np.bincount(rng.integers(0, 20, 20), minlength=20) for _ in range(8))):
        copies = np.repeat(np.arange(20), times)
        copied = as_coco([found[k] for k in copies], [truths[k] for k in copies])
        expected = average_precision(*copied)[1]["mAP_50"]
        assert ranked.coco_ap(times.astype(float)) == pytest.approx(expected, abs=1e-9)


def test_pycocotools_lets_a_prediction_take_its_second_choice():
    truths = np.array([[0.0, 0, 10, 10], [0, 2, 10, 12]])
    boxes, scores = np.array([[0.0, 0, 10, 10], [0, 0.5, 10, 10.5]]), np.array([0.9, 0.8])
    assert coco_match(boxes, scores, truths)[1].tolist() == [True, True]
    assert match(boxes, scores, truths).tolist() == [True, False]


def test_of_equally_good_truths_pycocotools_takes_the_last():
    truths = np.array([[0.0, 0, 10, 10], [4, 0, 14, 10]])
    boxes, scores = np.array([[2.0, 0, 12, 10], [5, 0, 14, 10]]), np.array([0.9, 0.8])
    expected = plain(*as_coco([(boxes, scores)], [truths])).evalImgs[0]["dtMatches"][0] > 0
    assert coco_match(boxes, scores, truths)[1].tolist() == expected.tolist() == [True, False]


def test_without_results_nothing_is_matched():
    found, truths = scene(0)
    nothing = [(np.zeros((0, 4)), np.zeros(0))] * len(found)
    ranking = rank(nothing, truths, coco=True)
    assert (len(ranking.scores), ranking.coco_ap()) == (0, 0)


@given(seed=st.integers(0, 2**32 - 1), crowd=st.booleans())
@settings(max_examples=25, deadline=None)
def test_the_fast_evaluation_gives_pycocotools_numbers(seed, crowd):
    rng = np.random.default_rng(seed)
    annotations, results = [], []
    for image in range(rng.integers(1, 8)):
        for _ in range(rng.integers(0, 5)):
            x, y, w, h = rng.integers(1, 30, 4).tolist()
            one = {"id": len(annotations) + 1, "image_id": image, "category_id": int(rng.integers(1, 3))}
            crowded = int(crowd and rng.random() < 0.2)
            annotations.append({**one, "bbox": [x, y, w, h], "area": w * h, "iscrowd": crowded})
        for _ in range(rng.integers(0, 120)):
            box = rng.integers(1, 30, 4).tolist()
            score = float(rng.integers(0, 20) / 20)  # ties too
            results.append({"image_id": image, "category_id": int(rng.integers(1, 3)), "bbox": box, "score": score})
    if not annotations or not results:
        return
    images = [{"id": number, "width": 64, "height": 64} for number in range(8)]
    categories = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    truth = {"images": images, "annotations": annotations, "categories": categories}
    expected = plain(truth, results).eval["precision"]
    np.testing.assert_allclose(coco_precision(truth, results, [1, 2]), expected, rtol=0, atol=1e-12)


def several(found, truths, studies):
    """One category with predictions of the scene, and one with those of the scene backwards."""
    truth, results = as_coco(found, truths)
    other, more = as_coco(found[::-1], truths[::-1])
    annotations = [*truth["annotations"], *({**a, "category_id": 2} for a in other["annotations"])]
    annotations = [{**a, "id": number} for number, a in enumerate(annotations, 1)]
    images = [{**image, "study_id": study} for image, study in zip(truth["images"], studies, strict=True)]
    categories = [{"id": 1, "name": "opacity"}, {"id": 2, "name": "nodule"}]
    truth = {"images": images, "annotations": annotations, "categories": categories}
    return truth, [*results, *({**one, "category_id": 2} for one in more)]


def scored(truth, results, threshold):
    return with_details(score_detections(truth, results, threshold), truth, results)


def test_intervals_hold_the_numbers_beside_them_and_those_of_several_classes_their_means():
    found, truths = scene(1, digits=1)
    studies = [f"s{number // 2}" for number in range(20)]
    truth, results = as_coco(found, truths)
    truth["images"] = [{**image, "study_id": study} for image, study in zip(truth["images"], studies, strict=True)]
    one, two = scored(truth, results, 0.4), scored(*several(found, truths, studies), 0.4)
    for metrics in (one, two, *two["per_class"].values()):
        for key in RESAMPLED[:5]:
            low, high = metrics[f"{key}_interval"]
            assert low < metrics[key] < high
    assert score_detections(truth, results, 0.4).items() <= one.items()
    assert study_numbers(studies[:5]) == [0, 0, 1, 1, 2]


@pytest.mark.parametrize("classes", [1, 2])
def test_every_interval_is_of_the_number_beside_it(classes, monkeypatch):
    found, truths = scene(2, digits=1)
    studies = [f"s{number // 2}" for number in range(20)]
    truth, results = several(found, truths, studies)
    if classes == 1:
        truth["categories"].pop()
        truth["annotations"] = [a for a in truth["annotations"] if a["category_id"] == 1]
        results = [one for one in results if one["category_id"] == 1]
    seen = []

    def ones(statistic, clusters):
        seen.append((statistic(np.ones(clusters)), clusters))
        return {}

    monkeypatch.setattr("covidmm.evaluation.detection_details.intervals", ones)
    metrics = scored(truth, results, 0.3)
    ((values, clusters),) = seen
    assert clusters == 10
    own = {"opacity": metrics} if classes == 1 else metrics["per_class"]
    expected = {(key, name): one[name] for key, one in {**own, None: metrics}.items() for name in RESAMPLED}
    assert values == pytest.approx(expected, abs=1e-9)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_ap_of_every_class_is_pycocotools_to_the_digit(seed):
    """Crowds, classes without a box, gapped ids, equal scores, boxes without area, over 100 boxes of a class."""
    rng = np.random.default_rng(seed)
    categories = [{"id": number, "name": f"finding {number}"} for number in (3, 7, 8, 20)]
    images = [{"id": number, "width": 64, "height": 64} for number in (1, 5, 6, 9)]
    annotations, results = [], []
    for image in images:
        for _ in range(rng.integers(0, 6)):
            x, y, w, h = rng.integers(0, 24, 4).tolist()
            own = {"id": len(annotations) + 1, "image_id": image["id"], "category_id": int(rng.choice([3, 7, 20]))}
            annotations.append({**own, "bbox": [x, y, w, h], "area": w * h, "iscrowd": int(rng.random() < 0.2)})
        for _ in range(rng.choice([0, 10, 300])):
            near = annotations[rng.integers(len(annotations))]["bbox"] if annotations else [0, 0, 9, 9]
            box = np.maximum(np.add(near, rng.integers(-4, 4, 4)), 0).tolist()
            category, score = int(rng.choice([3, 3, 3, 7, 8, 20])), int(rng.integers(0, 12)) / 12
            results.append({"image_id": image["id"], "category_id": category, "bbox": box, "score": score})
    if not results or not any(not one["iscrowd"] for one in annotations):
        return
    truth = {"images": images, "annotations": annotations, "categories": categories}
    evaluation = plain(truth, results)
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    wanted = {
        category: {"mAP_50": precision[0, :, k].mean(), "mAP": precision[:, :, k].mean()}
        for k, category in enumerate(evaluation.params.catIds)
        if (precision[0, :, k] > -1).all()
    }
    found = average_precision(truth, results)
    assert found.keys() == wanted.keys()
    for category, own in wanted.items():
        assert found[category] == pytest.approx(own, abs=1e-12)
