"""What is nested in metrics.json beside the flat numbers."""

import json

import numpy as np
import pytest

from covidmm.evaluation.classification import reliability
from covidmm.evaluation.coco_dicts import coco_results, coco_truth
from covidmm.evaluation.detection import rank, score_detections
from covidmm.evaluation.detection_details import with_details
from covidmm.findings import Detections
from tests.evaluation.test_detection_errors import KINDS, naive_confusion, naive_errors, near_scenes

CLASSES = ("opacity", "nodule", "effusion")
THRESHOLDS = dict(zip(CLASSES, (0.25, 0.5, 0.0), strict=True))


def documents(seed, classes=CLASSES):
    """A COCO file and a results list, and the same as arrays."""
    found, truths = near_scenes(seed)
    images = [{"id": number, "study_id": f"s{number // 2}"} for number in range(1, len(truths) + 1)]
    results = coco_results(images, [Detections(*one) for one in found])
    scores = np.concatenate([scores for _, scores, _ in found]).tolist()
    boxes = np.concatenate([boxes for boxes, _, _ in found])
    boxes[:, 2:] -= boxes[:, :2]
    for result, score, box in zip(results, scores, boxes.tolist(), strict=True):
        result |= {"score": score, "bbox": box}
    truth = coco_truth(images, truths, classes)
    return truth, results, found, truths


@pytest.fixture
def scored():
    truth, results, found, truths = documents(1)
    metrics = score_detections(truth, results, 0.5, thresholds=THRESHOLDS)
    return metrics, with_details(metrics, truth, results), found, truths


def alone(truth, results, category=1):
    """Of one class alone."""
    own = {**truth, "categories": [one for one in truth["categories"] if one["id"] == category]}
    own["annotations"] = [one for one in truth["annotations"] if one["category_id"] == category]
    return own, [one for one in results if one["category_id"] == category]


def test_nothing_that_was_there_changes(scored):
    metrics, detailed, _, _ = scored
    assert {key: detailed[key] for key in metrics if key != "per_class"} == {
        key: value for key, value in metrics.items() if key != "per_class"
    }
    for name, own in metrics["per_class"].items():
        assert {key: detailed["per_class"][name][key] for key in own} == own
    assert json.loads(json.dumps(detailed, allow_nan=False)) == detailed


def test_confusion_is_at_the_threshold_of_each_class(scored):
    _, detailed, found, truths = scored
    assert detailed["confusion"]["classes"] == list(CLASSES)
    assert detailed["confusion"]["counts"] == naive_confusion(found, truths).tolist()
    assert list(detailed["errors"]) == list(CLASSES)
    assert [[own[kind] for kind in KINDS] for own in detailed["errors"].values()] == naive_errors(
        found, truths
    ).tolist()


def test_one_class_is_not_confused():
    truth, results = alone(*documents(1)[:2])
    assert "confusion" not in with_details(score_detections(truth, results), truth, results)


def test_a_class_without_a_true_box_has_the_common_threshold():
    truth, results, _, _ = documents(1)
    truth["annotations"] = [one for one in truth["annotations"] if one["category_id"] != 3]
    metrics = score_detections(truth, results, 0.55)
    counts = np.array(with_details(metrics, truth, results)["confusion"]["counts"])
    crowded = sum(one["score"] >= 0.55 and one["category_id"] == 3 for one in results)
    assert counts[2].sum() == 0
    assert counts[:, 2].sum() == crowded


def test_froc_and_calibration_are_of_each_class_and_their_means(scored):
    _, detailed, found, truths = scored
    for label, name in enumerate(CLASSES):
        own = [(boxes[labels == label], scores[labels == label]) for boxes, scores, labels in found]
        true = [truth.boxes[truth.labels == label] for truth in truths]
        ranking = rank(own, true, crowds=[truth.crowds[truth.crowd_labels == label] for truth in truths])
        entry = detailed["per_class"][name]
        assert list(entry["sensitivities"].values()) == ranking.sensitivities().tolist()
        assert entry["froc"] == pytest.approx(ranking.sensitivities().mean())
        expected = reliability(ranking.scores, ranking.hits, 10)
        assert entry["calibration"] == expected["bins"]
        assert entry["ece"] == pytest.approx(expected["ece"])
    for key in ("froc", "ece"):
        assert detailed[key] == pytest.approx(np.mean([own[key] for own in detailed["per_class"].values()]))
    assert list(detailed["sensitivities"]) == ["0.125", "0.25", "0.5", "1", "2", "4", "8"]


def test_one_class_has_its_own_at_the_top():
    truth, results = alone(*documents(1)[:2])
    detailed = with_details(score_detections(truth, results), truth, results)
    assert {"froc", "sensitivities", "ece", "calibration", "mAP_50_interval", "froc_interval"} <= detailed.keys()
    assert list(detailed["errors"]) == ["opacity"]
    assert "per_class" not in detailed


def test_a_class_of_which_nothing_was_found_has_no_calibration():
    truth, results, _, _ = documents(1)
    results = [one for one in results if one["category_id"] != 2]
    own = with_details(score_detections(truth, results, 0.5), truth, results)
    assert (own["per_class"]["nodule"]["ece"], own["per_class"]["nodule"]["calibration"]) == (None, [])
    assert "ece_interval" not in own["per_class"]["nodule"]
    assert own["per_class"]["nodule"]["froc"] == 0
    others = [own["per_class"][name]["ece"] for name in ("opacity", "effusion")]
    assert own["ece"] == pytest.approx(np.mean(others))
    assert json.loads(json.dumps(own, allow_nan=False)) == own


def test_images_without_a_study_are_drawn_by_themselves():
    truth, results, _, _ = documents(1)
    alone = {**truth, "images": [{"id": image["id"]} for image in truth["images"]]}
    named = {**truth, "images": [{**image, "study_id": f"own {image['id']}"} for image in truth["images"]]}
    found = [with_details(score_detections(one, results, 0.5), one, results) for one in (alone, named)]
    assert found[0] == found[1]
