import json
from pathlib import Path

import numpy as np
import pytest

from covidmm.datasets.annotated_image import AnnotatedImage
from covidmm.errors import DataError
from covidmm.evaluation.detection import score_detections
from covidmm.findings import Detections
from covidmm.jobs.scoring import Thresholds, choose_thresholds, ground_truth, score_each, stored_thresholds
from covidmm.outputs.predictions import ImageEntry, PredictionsWriter

IMAGES = [ImageEntry(f"i{k}", f"s{k}", 100, 100) for k in range(4)]
BOX = np.array([[10.0, 10, 40, 60]])
NO_BOX = np.zeros((0, 4))


def truth_of(boxes):
    return {name: AnnotatedImage(Path("a.png"), name, "study", own) for name, own in boxes.items()}


TRUTH = truth_of({"i0": BOX, "i1": BOX, "i2": BOX, "i3": NO_BOX})


def write(folder, name, scores, fingerprint=None):
    """The right box with a score on each image."""
    with PredictionsWriter(folder, name, {"data_sha256": "x", **(fingerprint or {"checkpoint": name})}) as writer:
        found = [Detections(BOX if score else np.zeros((0, 4)), [score] if score else []) for score in scores]
        writer.add(list(zip(IMAGES, found, strict=True)))
        return writer.finish()


def test_a_perfect_detector_and_a_noisy_one(tmp_path):
    found = score_each(
        {"good": write(tmp_path, "good", [0.9, 0.8, 0.7, 0]), "bad": write(tmp_path, "bad", [0.9, 0, 0, 0.95])},
        TRUTH,
        Thresholds({"good": 0.75, "bad": 0.5}, {}),
    )
    assert found["good"]["mAP_50"] == pytest.approx(1)
    assert (found["good"]["recall"], found["good"]["precision"]) == (pytest.approx(2 / 3), 1.0)
    assert (found["bad"]["recall"], found["bad"]["precision"]) == (pytest.approx(1 / 3), 0.5)


def test_it_is_the_metric_of_the_test_tool(tmp_path):
    one = write(tmp_path, "a", [0.9, 0.2, 0, 0.3])
    direct = score_detections(ground_truth(one, TRUTH), json.loads(one.path.read_text()), 0.25)
    assert score_each({"a": one}, TRUTH, Thresholds({"a": 0.25}, {}))["a"] == direct


def test_thresholds_are_chosen_on_validation_and_taken_to_other_images(tmp_path):
    path = tmp_path / "operating.json"
    chosen = choose_thresholds(path, {"a": write(tmp_path, "a", [0.9, 0.8, 0.3, 0.2])}, TRUTH)
    assert chosen.common["a"] == pytest.approx(0.3)
    other = write(tmp_path / "test", "a", [0.5, 0, 0, 0], {"checkpoint": "a", "data_sha256": "another"})
    assert stored_thresholds(path, {"a": other.fingerprint}) == chosen


def test_thresholds_of_other_models_or_fusions_are_refused(tmp_path):
    path = tmp_path / "operating.json"
    with pytest.raises(DataError, match=r"operating\.json: no thresholds yet; score the prepared folder first"):
        stored_thresholds(path, {})
    choose_thresholds(path, {"a": write(tmp_path, "a", [0.9, 0.8, 0.3, 0.2])}, TRUTH)
    other = write(tmp_path / "test", "a", [0.5, 0, 0, 0], {"checkpoint": "b"})
    with pytest.raises(DataError, match="the threshold of 'a' is of another model or fusion"):
        stored_thresholds(path, {"a": other.fingerprint})
    path.write_text("{")
    with pytest.raises(DataError, match="damaged"):
        stored_thresholds(path, {"a": other.fingerprint})


def test_every_interval_is_of_the_number_beside_it(tmp_path):
    rng = np.random.default_rng(0)
    images = [ImageEntry(f"i{k}", f"s{k // 2}", 300, 300) for k in range(40)]
    boxes, found = {}, []
    for image in images:
        low = rng.uniform(50, 100, (2, 2))
        own = np.hstack([low, low + rng.uniform(90, 140, (2, 2))]) if rng.random() < 0.7 else np.zeros((0, 4))
        boxes[image.image_id] = own
        near = np.vstack([own, own]) + rng.uniform(-25, 25, (2 * len(own), 4))
        found.append(Detections(near, rng.random(len(near)).round(1)))
    with PredictionsWriter(tmp_path, "a", {"data_sha256": "x", "checkpoint": "a"}) as writer:
        writer.add(list(zip(images, found, strict=True)))
        one = writer.finish()
    truth = truth_of(boxes)
    seen = []

    def ones(statistic, clusters):
        seen.append((statistic(np.ones(clusters)), clusters))
        return {}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("covidmm.evaluation.detection_details.intervals", ones)
        value = score_each({"a": one}, truth, Thresholds({"a": 0.3}, {}), with_intervals=True)["a"]
    ((found_, studies),) = seen
    assert studies == 20
    assert found_ == pytest.approx({(key, name): value[name] for key, name in found_}, abs=1e-9)


def test_what_cannot_be_scored_is_named(tmp_path):
    one = write(tmp_path, "good", [0.9, 0.8, 0.7, 0])
    nothing = truth_of({image.image_id: NO_BOX for image in IMAGES})
    with pytest.raises(DataError, match=r"good\.json: recall is undefined"):
        score_each({"good": one}, nothing, Thresholds({"good": 0.5}, {}))
