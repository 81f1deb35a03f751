"""Weighted rankings of pycocotools' matches against pycocotools on copied images."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covidmm.evaluation.coco_eval import coco_evaluation, coco_matches, fast_coco_evaluation
from covidmm.evaluation.detection import IOU_THRESHOLD, average_precision, match
from covidmm.evaluation.ranking import Ranking


def scene(seed, images=20, digits=6):
    """Crowded truths, and predictions that often overlap two of them."""
    rng = np.random.default_rng(seed)
    truth = {"images": [{"id": k} for k in range(1, images + 1)], "annotations": []}
    truth["categories"] = [{"id": 1, "name": "opacity"}]
    results = []
    for image in range(1, images + 1):
        for _ in range(rng.integers(0, 5)):
            x, y, width, height = (*rng.uniform(0, 60, 2), *rng.uniform(80, 140, 2))
            entry = {"image_id": image, "category_id": 1}
            number = len(truth["annotations"]) + 1
            box = [x, y, width, height]
            truth["annotations"].append({**entry, "bbox": box, "id": number, "area": width * height})
            near = (np.array(box) * rng.normal(1, 0.1, 4)).tolist()
            results.append({**entry, "bbox": near, "score": round(rng.random(), digits)})
        for _ in range(3):
            box = [*rng.uniform(0, 60, 2).tolist(), *rng.uniform(80, 140, 2).tolist()]
            results.append({"image_id": image, "category_id": 1, "bbox": box, "score": round(rng.random(), digits)})
    return truth, results


def ranking(truth, results):
    found = coco_matches(truth, results, IOU_THRESHOLD)
    images = [image["id"] for image in truth["images"]]
    nothing = np.zeros(0), np.zeros(0, bool)
    scores, hits = zip(*(found.get(k, nothing) for k in images), strict=True)
    counts = [sum(a["image_id"] == k for a in truth["annotations"]) for k in images]
    return Ranking.of(scores, hits, counts, range(len(images)), len(images), group_ties=False)


def copied(truth, results, times):
    images, annotations, found = [], [], []
    for image, count in zip(truth["images"], times, strict=True):
        for _ in range(count):
            new = len(images) + 1
            images.append({"id": new})
            annotations += [{**a, "image_id": new} for a in truth["annotations"] if a["image_id"] == image["id"]]
            found += [{**r, "image_id": new} for r in results if r["image_id"] == image["id"]]
    annotations = [{**a, "id": k} for k, a in enumerate(annotations, 1)]
    return {**truth, "images": images, "annotations": annotations}, found


@pytest.mark.parametrize("seed", range(3))
def test_equal_scores_rank_as_in_pycocotools(seed):
    truth, results = scene(seed, digits=1)
    expected = average_precision(truth, results)[1]["mAP_50"]
    assert ranking(truth, results).coco_ap(np.ones(20)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_a_resample_is_scored_as_pycocotools_scores_copied_images(seed):
    truth, results = scene(seed)
    ranked = ranking(truth, results)
    rng = np.random.default_rng(seed)
    for times in (np.ones(20, int), *(np.bincount(rng.integers(0, 20, 20), minlength=20) for _ in range(8))):
        expected = average_precision(*copied(truth, results, times))[1]["mAP_50"]
        assert ranked.coco_ap(times.astype(float)) == pytest.approx(expected, abs=1e-9)


def test_pycocotools_lets_a_prediction_take_its_second_choice():
    boxes = [[0, 0, 10, 10], [0, 2, 10, 10]]
    truth = {"images": [{"id": 7}], "categories": [{"id": 1, "name": "opacity"}]}
    entry = {"image_id": 7, "category_id": 1}
    truth["annotations"] = [{**entry, "id": k, "bbox": box, "area": 100} for k, box in enumerate(boxes, 1)]
    results = [{**entry, "bbox": [0, 0, 10, 10], "score": 0.9}, {**entry, "bbox": [0, 0.5, 10, 10], "score": 0.8}]
    scores, hits = coco_matches(truth, results, IOU_THRESHOLD)[7]
    assert (scores.tolist(), hits.tolist()) == ([0.9, 0.8], [True, True])
    own = match(np.array([[0, 0, 10, 10], [0, 0.5, 10, 10.5]]), scores, np.array([[0, 0, 10, 10], [0, 2, 10, 12]]))
    assert own.tolist() == [True, False]


def test_without_results_nothing_is_matched():
    assert coco_matches(scene(0)[0], [], IOU_THRESHOLD) == {}


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
    found = []
    for make in (coco_evaluation, fast_coco_evaluation):
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = make(truth, results)
            evaluation.evaluate()
            evaluation.accumulate()
        found.append([evaluation.eval[name] for name in ("precision", "recall", "scores")])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)
