import numpy as np
import pytest

import covidmm.studies
from covidmm import radiograph
from covidmm.findings import STUDY_CLASSES
from covidmm.inference import Predictor
from covidmm.inference.study_attention import Explainer, explainable
from covidmm.plugins import PluginManager
from covidmm.studies.network import NetworkClassifier


@pytest.fixture(scope="module")
def network(random_ensemble):
    found = explainable(Predictor.from_config(random_ensemble.config, device="cpu").classifier)
    assert isinstance(found, NetworkClassifier)
    return found


@pytest.fixture(scope="module")
def picture():
    return radiograph.of_array(np.random.default_rng(0).integers(0, 255, (200, 160), np.uint8))


def test_the_map_covers_what_the_pipeline_left(network, picture, monkeypatch):
    found = Explainer(network)(picture)
    assert found.region == pytest.approx((0, 0, 1, 1), abs=0.01)
    assert found.heat.max() in (0, 1)
    assert found.study_class in STUDY_CLASSES
    inside = network.inputs_of
    # a pipeline that cuts: columns 40 to 120 of 160, rows 100 to 200 of 200
    monkeypatch.setattr(network, "inputs_of", lambda pixels: inside(np.ascontiguousarray(pixels[100:, 40:120])))
    assert Explainer(network)(picture).region == pytest.approx((0.25, 0.5, 0.75, 1), abs=0.01)


def test_the_class_is_that_of_the_classifier(network, picture):
    from covidmm.findings import Detections, Study

    probabilities = network.classify(Study("x", [picture], [Detections.none()]))
    assert Explainer(network)(picture).study_class == STUDY_CLASSES[int(probabilities.argmax())]


def test_a_classifier_without_a_network_explains_nothing():
    assert explainable(None) is None
    manager = PluginManager([covidmm.studies])
    assert explainable(manager.build_study_classifier({"type": "from_detections"})) is None
