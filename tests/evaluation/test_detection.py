import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_curve
from torchvision.ops import box_iou

from covidmm.errors import DataError
from covidmm.evaluation.detection import (
    average_precision,
    iou,
    match,
    rank,
    score_detections,
)
from covidmm.evaluation.ranking import mean_curve


def random_boxes(rng, count):
    low = rng.uniform(0, 60, (count, 2))
    return np.hstack([low, low + rng.uniform(5, 40, (count, 2))])


def random_set(seed, images=12, found=6, ties=False, noise=2):
    """Images with and without truths; half of the predictions are near a truth."""
    rng = np.random.default_rng(seed)
    predictions, truths = [], []
    for number in range(images):
        truth = random_boxes(rng, 0 if number % 3 == 0 else rng.integers(1, 4))
        near = (
            truth[rng.integers(0, len(truth), found // 2)] + rng.normal(0, noise, (found // 2, 4)) if len(truth) else []
        )
        boxes = np.vstack([*near, random_boxes(rng, found // 2)])
        scores = rng.uniform(0, 1, len(boxes))
        predictions.append((boxes, np.round(scores, 1) if ties else scores))
        truths.append(truth)
    return predictions, truths


def naive(predictions, truths, threshold):
    """The rule of :func:`match`, one prediction after the other."""
    pooled = sorted(
        (
            (score, image, tuple(box))
            for image, (boxes, scores) in enumerate(predictions)
            for box, score in zip(boxes, scores, strict=True)
        ),
        key=lambda entry: -entry[0],
    )
    claimed, kept = set(), 0
    for score, image, box in pooled:
        if score < threshold:
            continue
        kept += 1
        best, which = 0.0, None
        for index, truth in enumerate(truths[image]):
            width = min(box[2], truth[2]) - max(box[0], truth[0])
            height = min(box[3], truth[3]) - max(box[1], truth[1])
            shared = max(width, 0) * max(height, 0)
            union = (box[2] - box[0]) * (box[3] - box[1]) + (truth[2] - truth[0]) * (truth[3] - truth[1]) - shared
            if shared / union > best:
                best, which = shared / union, (image, index)
        if best > 0.5:
            claimed.add(which)
    total = sum(map(len, truths))
    precision = len(claimed) / kept if kept else 0.0
    recall = len(claimed) / total
    return precision, recall, 2 * precision * recall / (precision + recall) if claimed else 0.0


def operating_curve(predictions, truths):
    return rank(predictions, truths).operating_curve()


def coco(predictions, truths, category=1, categories=("opacity",)):
    """The same as COCO ground truth and COCO results."""

    def xywh(box):
        return [*map(float, box[:2]), float(box[2] - box[0]), float(box[3] - box[1])]

    document = {
        "images": [{"id": number, "width": 100, "height": 100} for number in range(1, len(truths) + 1)],
        "annotations": [],
        "categories": [{"id": number, "name": name} for number, name in enumerate(categories, 1)],
    }
    for number, boxes in enumerate(truths, 1):
        for box in boxes:
            x, y, width, height = xywh(box)
            document["annotations"].append(
                {
                    "id": len(document["annotations"]) + 1,
                    "image_id": number,
                    "category_id": category,
                    "bbox": [x, y, width, height],
                    "area": width * height,
                    "iscrowd": 0,
                }
            )
    results = [
        {"image_id": number, "category_id": category, "bbox": xywh(box), "score": float(score)}
        for number, (boxes, scores) in enumerate(predictions, 1)
        for box, score in zip(boxes, scores, strict=True)
    ]
    return document, results


def test_iou_is_torchvisions():
    rng = np.random.default_rng(0)
    first, second = random_boxes(rng, 30), random_boxes(rng, 20)
    expected = box_iou(torch.from_numpy(first), torch.from_numpy(second)).numpy()
    np.testing.assert_allclose(iou(first, second), expected, atol=1e-12)


def test_boxes_without_area_overlap_nothing():
    point = np.array([[5.0, 5, 5, 5]])
    assert iou(point, point) == 0


@pytest.mark.parametrize(
    ("boxes", "scores", "expected"),
    [
        pytest.param([[0, 0, 10, 10]], [0.5], [True], id="exact"),
        pytest.param([[0, 0, 10, 5]], [0.5], [False], id="an overlap of one half is not greater than one half"),
        pytest.param([[0, 0, 10, 9], [0, 0, 10, 10]], [0.6, 0.5], [True, False], id="the surer one claims it"),
        pytest.param([[0, 0, 10, 9], [0, 0, 10, 10]], [0.5, 0.6], [False, True], id="whatever their order"),
        pytest.param([[50, 50, 60, 60]], [0.9], [False], id="beside it"),
        pytest.param([], [], [], id="none"),
    ],
)
def test_match(boxes, scores, expected):
    truths = np.array([[0.0, 0, 10, 10], [20, 0, 30, 10]])
    assert match(np.array(boxes, float).reshape(-1, 4), np.array(scores), truths).tolist() == expected


def test_a_claimed_truth_does_not_hand_its_rival_to_the_next_one():
    """A second box on the same truth is false even where another truth overlaps it by more than one half too."""
    truths = np.array([[0.0, 0, 10, 10], [0, 2, 10, 12]])
    boxes = np.array([[0.0, 0, 10, 10], [0, 0.5, 10, 10.5]])
    assert iou(boxes, truths)[1].min() > 0.5
    assert match(boxes, np.array([0.9, 0.8]), truths).tolist() == [True, False]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_curve_is_the_naive_loops(seed, ties):
    predictions, truths = random_set(seed, ties=ties)
    curve = operating_curve(predictions, truths)
    for threshold in [0.0, 0.05, 0.3, *curve.scores[::5], 0.9, 1.0]:
        point = curve.at(threshold)
        expected = naive(predictions, truths, threshold)
        assert (point.precision, point.recall, point.f1) == pytest.approx(expected, abs=1e-12)
    best = curve.best_f1()
    assert best.f1 == pytest.approx(max(naive(predictions, truths, score)[2] for score in curve.scores))


def test_curve_is_sklearns_where_every_truth_has_a_candidate():
    predictions, truths = random_set(5)
    hits = np.concatenate([match(b, s, t) for (b, s), t in zip(predictions, truths, strict=True)])
    scores = np.concatenate([scores for _, scores in predictions])
    precision, recall, thresholds = precision_recall_curve(hits, scores)
    curve = operating_curve(predictions, truths)
    np.testing.assert_array_equal(curve.scores, thresholds[::-1])
    np.testing.assert_allclose(curve.precision, precision[:-1][::-1])
    # sklearn counts the truths that some prediction finds, not all of them
    np.testing.assert_allclose(curve.recall, recall[:-1][::-1] * hits.sum() / curve.truths)


@given(seed=st.integers(0, 10_000), shuffle=st.randoms(use_true_random=False), ties=st.booleans())
@settings(max_examples=40, deadline=None)
def test_curve_knows_no_order_of_images_or_boxes(seed, shuffle, ties):
    predictions, truths = random_set(seed, ties=ties)
    curve = operating_curve(predictions, truths)
    order = list(range(len(truths)))
    shuffle.shuffle(order)
    reversed_boxes = [(predictions[k][0][::-1], predictions[k][1][::-1]) for k in order]
    other = operating_curve(reversed_boxes, [truths[k] for k in order])
    np.testing.assert_array_equal(curve.scores, other.scores)
    np.testing.assert_array_equal(curve.precision, other.precision)
    np.testing.assert_array_equal(curve.recall, other.recall)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_curve_rises_and_ignores_the_scale_of_scores(seed):
    predictions, truths = random_set(seed)
    curve = operating_curve(predictions, truths)
    assert (np.diff(curve.recall) >= 0).all()
    assert (np.diff(curve.scores) < 0).all()
    assert ((curve.f1 >= 0) & (curve.f1 <= 1)).all()
    rescaled = operating_curve([(boxes, scores**3 / 2) for boxes, scores in predictions], truths)
    np.testing.assert_array_equal(curve.f1, rescaled.f1)
    assert rescaled.best_f1().threshold == pytest.approx(curve.best_f1().threshold ** 3 / 2)


def test_an_image_without_boxes_only_adds_false_alarms():
    predictions, truths = random_set(1)
    curve = operating_curve(predictions, truths)
    empty = operating_curve([*predictions, (np.array([[0.0, 0, 9, 9]]), np.array([2.0]))], [*truths, np.zeros((0, 4))])
    assert empty.at(0).recall == curve.at(0).recall
    assert empty.at(0).precision < curve.at(0).precision


def test_nothing_found():
    curve = operating_curve([(np.zeros((0, 4)), np.zeros(0))], [np.array([[0.0, 0, 5, 5]])])
    best = curve.best_f1()
    assert (best.precision, best.recall, best.f1) == (0, 0, 0)
    assert curve.at(0.5).f1 == 0


@pytest.mark.parametrize("seed", range(3))
def test_average_precision_is_cocoevals_own_summary(seed, capsys):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth, results = coco(*random_set(seed, images=40, noise=4))
    before = repr(truth)
    found = average_precision(truth, results)
    assert repr(truth) == before
    assert capsys.readouterr().out == ""
    api = COCO()
    api.dataset = {"info": {}, **truth}
    api.createIndex()
    evaluation = COCOeval(api, api.loadRes(results), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert found == {1: {"mAP": pytest.approx(evaluation.stats[0]), "mAP_50": pytest.approx(evaluation.stats[1])}}
    assert 0.01 < found[1]["mAP"] < found[1]["mAP_50"] < 1


def test_perfect_predictions_score_one():
    _, truths = random_set(3)
    truth, results = coco([(boxes, np.full(len(boxes), 0.7)) for boxes in truths], truths)
    metrics = score_detections(truth, results)
    assert all(metrics[key] == pytest.approx(1) for key in ("mAP_50", "mAP", "f1", "precision", "recall"))
    assert metrics["threshold"] == 0.7
    assert (metrics["images"], metrics["boxes"]) == (12, sum(map(len, truths)))


def test_a_given_threshold_is_used_and_the_best_told_beside_it():
    predictions, truths = random_set(7)
    truth, results = coco(predictions, truths)
    free, fixed = score_detections(truth, results), score_detections(truth, results, threshold=0.8)
    assert free["f1"] == free["best_f1"] == fixed["best_f1"]
    assert free["threshold"] == fixed["best_f1_threshold"]
    assert fixed["threshold"] == 0.8
    assert (fixed["precision"], fixed["recall"], fixed["f1"]) == pytest.approx(naive(predictions, truths, 0.8))
    assert fixed["mAP"] == free["mAP"]


def test_several_classes_are_scored_apart_and_averaged():
    one, two = random_set(1), random_set(2)
    truth, results = coco(*one, categories=("opacity", "nodule", "never"))
    more, more_results = coco(*two, category=2)
    shift = len(truth["annotations"])
    truth["annotations"] += [{**a, "id": a["id"] + shift} for a in more["annotations"]]
    results += more_results
    metrics = score_detections(truth, results, threshold=0.4)
    first, second = (score_detections(*coco(*each), threshold=0.4) for each in (one, two))
    for key in ("mAP_50", "mAP", "f1", "precision", "recall", "best_f1"):
        assert metrics["per_class"]["opacity"][key] == pytest.approx(first[key])
        assert metrics["per_class"]["nodule"][key] == pytest.approx(second[key])
        assert metrics[key] == pytest.approx((first[key] + second[key]) / 2)
    assert metrics["per_class"]["never"] == {"boxes": 0}
    assert metrics["boxes"] == first["boxes"] + second["boxes"]
    assert "per_class" not in score_detections(*coco(*one))


def test_each_class_has_a_threshold_of_its_own():
    one, two = random_set(1), random_set(2)
    truth, results = coco(*one, categories=("opacity", "nodule"))
    more, more_results = coco([(boxes, scores / 4) for boxes, scores in two[0]], two[1], category=2)
    shift = len(truth["annotations"])
    truth["annotations"] += [{**a, "id": a["id"] + shift} for a in more["annotations"]]
    results += more_results
    free = score_detections(truth, results)
    own = {name: found["threshold"] for name, found in free["per_class"].items()}
    assert own["nodule"] < 0.25 < own["opacity"]
    assert free["f1"] == free["best_f1"]
    fixed = score_detections(truth, results, 0.5, thresholds=own)
    assert fixed["f1"] == free["f1"]
    assert fixed["threshold"] == 0.5
    one_alone = score_detections(truth, results, 0.9, thresholds={"nodule": own["nodule"]})["per_class"]
    assert one_alone["nodule"] == free["per_class"]["nodule"]
    assert one_alone["opacity"]["threshold"] == 0.9


def test_the_mean_of_classes_that_find_nothing():
    nothing = operating_curve([(np.zeros((0, 4)), np.zeros(0))], [np.array([[0.0, 0, 5, 5]])])
    assert mean_curve([nothing, nothing]).best_f1().f1 == 0


def test_a_class_does_not_claim_the_truth_of_another():
    box = np.array([[0.0, 0, 50, 50]])
    truth, results = coco([(box, np.array([0.9]))], [box], categories=("opacity", "nodule"))
    assert score_detections(truth, results)["f1"] == 1
    assert score_detections(truth, [{**results[0], "category_id": 2}])["best_f1"] == 0


def test_no_prediction_at_all_scores_zero():
    truth, _ = coco(*random_set(1))
    metrics = score_detections(truth, [])
    assert {metrics[key] for key in ("mAP_50", "mAP", "f1", "precision", "recall", "best_f1")} == {0.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 77}, "prediction for image 77"),
        ({"category_id": 2}, "prediction for category 2"),
        ({"score": float("nan")}, "image 1: box or score is not finite"),
        ({"bbox": [0, 0, float("inf"), 5]}, "image 1: box or score is not finite"),
    ],
)
def test_impossible_predictions(change, message):
    truth, results = coco(*random_set(1))
    with pytest.raises(DataError, match=message):
        score_detections(truth, [{**results[0], **change}])


def test_a_truth_for_an_image_that_is_not_there():
    truth, results = coco(*random_set(1))
    truth["annotations"][0]["image_id"] = 77
    with pytest.raises(DataError, match="annotation for image 77"):
        score_detections(truth, results)


def test_metrics_over_no_box_are_refused():
    truth, results = coco(*random_set(1))
    with pytest.raises(DataError, match="none of the evaluated images has a ground-truth box"):
        score_detections({**truth, "annotations": []}, results)


def test_a_test_split_takes_seconds():
    truth, results = coco(*random_set(1, images=300, found=100))
    assert len(results) > 20_000
    started = time.process_time()
    score_detections(truth, results)
    assert time.process_time() - started < 10
