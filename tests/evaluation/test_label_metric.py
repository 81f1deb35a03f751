import json

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from scipy.special import softmax
from sklearn.metrics import accuracy_score

from covidmm.errors import ConfigError, DataError
from covidmm.evaluation.label_metric import LabelMetric
from covidmm.evaluation.metric_tables import format_labels

CLASSES = ("negative", "typical", "indeterminate", "atypical")


def sample(image, study, logits, label):
    target = np.zeros(4, np.float32)
    target[label] = 1
    return {"image_id": image, "study_id": study, "logits": torch.tensor(logits), "target": target}


def measure(samples, **options):
    metric = LabelMetric(CLASSES, **options)
    metric.process(None, samples)
    return metric.evaluate(len(samples))


@pytest.fixture
def samples():
    random = np.random.default_rng(0)
    return [
        sample(f"image{i}", f"study{i // 2}", random.normal(0, 2, 4).astype(np.float32).tolist(), (i // 2) % 4)
        for i in range(24)
    ]


def test_images_of_a_study_are_averaged(samples, tmp_path):
    found = measure(samples, aggregate="mean", temperature=2.0, outfile=str(tmp_path / "out.json"))
    assert found["study/cases"] == 12
    written = json.loads((tmp_path / "out.json").read_text())
    first = np.mean([softmax(samples[i]["logits"].numpy().astype(float) / 2) for i in (0, 1)], axis=0)
    assert written["predictions"][0] == {
        "id": "study0", "target": [1, 0, 0, 0], "scores": pytest.approx(first.tolist())
    }  # fmt: skip
    assert sum(map(sum, written["confusion"]["counts"])) == 12
    assert written["calibration"]["ece"] == found["study/ece"]


def test_the_maximum_is_rescaled_to_probabilities(samples, tmp_path):
    measure(samples, aggregate="max", temperature=1.0, outfile=str(tmp_path / "out.json"))
    for one in json.loads((tmp_path / "out.json").read_text())["predictions"]:
        assert sum(one["scores"]) == pytest.approx(1)


def test_without_aggregation_images_count(samples):
    found = measure(samples, temperature=1.0)
    logits = np.stack([one["logits"].numpy() for one in samples])
    truth = [int(one["target"].argmax()) for one in samples]
    assert found["study/cases"] == 24
    assert found["study/accuracy"] == pytest.approx(accuracy_score(truth, logits.argmax(1)))


def test_validation_fits_the_temperature_and_test_takes_it(samples):
    assert measure(samples)["study/temperature"] != 1.0
    assert measure(samples, temperature=3.5)["study/temperature"] == 3.5


def test_multi_label_scores_are_sigmoids(tmp_path):
    one = {
        "image_id": "a",
        "study_id": "b",
        "logits": torch.tensor([0.0, 4, -4, 0]),
        "target": np.float32([1, 1, 0, 0]),
    }
    found = measure([one], multi_label=True, prefix="findings", outfile=str(tmp_path / "out.json"))
    assert "findings/temperature" not in found
    scores = json.loads((tmp_path / "out.json").read_text())["predictions"][0]["scores"]
    assert scores == pytest.approx([0.5, 0.98201, 0.01799, 0.5], abs=1e-4)


def test_an_image_that_a_sampler_repeats_counts_once(samples):
    assert measure([*samples, samples[0]], temperature=1.0)["study/cases"] == 24


def test_an_unknown_way_to_aggregate_is_refused():
    with pytest.raises(ConfigError, match="median"):
        LabelMetric(CLASSES, aggregate="median")


def test_a_class_without_a_case_is_said_not_averaged_away(samples, tmp_path, caplog):
    MMLogger.get_current_instance().addHandler(caplog.handler)
    kept = [one for one in samples if not one["target"][2]]
    found = measure(kept, aggregate="mean", temperature=1.0, outfile=str(tmp_path / "out.json"))
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["absent"] == [CLASSES[2]]
    assert found["study/mAP"] == pytest.approx(
        np.mean([one["ap"] for name, one in written["per_class"].items() if name != CLASSES[2]])
    )
    assert f"no case of {CLASSES[2]}" in caplog.text
    assert f"the means are over 3 classes: no {CLASSES[2]}" in format_labels(written)


def several(image, study, logits, target):
    return {"image_id": image, "study_id": study, "logits": torch.tensor(logits), "target": np.float32(target)}


def test_of_several_labels_a_study_has_those_of_all_its_images(tmp_path):
    metric = LabelMetric(multi_label=True, aggregate="mean", outfile=str(tmp_path / "out.json"))
    metric.dataset_meta = {"classes": ("mass", "nodule")}
    metric.process(None, [several("a", "s", [0.0, 4.0], [1, 0]), several("b", "s", [2.0, 4.0], [0, 1])])
    metric.process(None, [several("c", "t", [0.0, -4.0], [0, 0])])
    assert metric.evaluate(3)["study/cases"] == 2
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["classes"] == ["mass", "nodule"]  # of the data set
    assert [one["target"] for one in written["predictions"]] == [[1, 1], [0, 0]]
    sigmoid = 1 / (1 + np.exp(-np.array([[0.0, 4.0], [2.0, 4.0]])))
    assert written["predictions"][0]["scores"] == pytest.approx(sigmoid.mean(0).tolist())  # of no sum


def test_images_of_a_study_that_contradict_each_other_are_no_study():
    contradiction = [sample("a", "s", [0.0] * 4, 0), sample("b", "s", [0.0] * 4, 1)]
    with pytest.raises(DataError, match="study s: its images have different labels; score images, by aggregate=None"):
        measure(contradiction, aggregate="mean")
