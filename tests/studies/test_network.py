import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope

from covidmm.engine.config import load_config
from covidmm.errors import CheckpointError, ConfigError
from covidmm.findings import Detections, Study
from covidmm.studies.network import NetworkClassifier

CONFIG = "configs/phantom/study_r18_phantom.py"
NONE = Detections(np.zeros((0, 4)), [])


class Film:
    def __init__(self, seed):
        self.pixels = np.random.default_rng(seed).integers(0, 255, (200, 150), dtype=np.uint8)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    init_default_scope("mmdet")
    torch.manual_seed(0)
    model = MODELS.build(load_config(CONFIG).model)
    model.init_weights()
    path = tmp_path_factory.mktemp("checkpoint") / "a.pth"
    torch.save({"state_dict": model.state_dict(), "meta": {"val_metrics": {"study/temperature": 2.0}}}, path)
    return path


def test_radiographs_of_a_study_are_averaged_at_the_fitted_temperature(checkpoint):
    classifier = NetworkClassifier(CONFIG, str(checkpoint))
    assert classifier.temperature == 2.0
    films = [Film(0), Film(1)]
    both = classifier.classify(Study("s", films, [NONE] * 2))
    each = [classifier.classify(Study("s", [film], [NONE])) for film in films]
    assert both == pytest.approx(np.mean(each, axis=0), abs=1e-5)
    assert not np.allclose(*each)
    assert both.sum() == pytest.approx(1, abs=1e-5)


def test_a_study_without_radiographs_gets_equal_probabilities_and_a_warning(checkpoint):
    with pytest.warns(UserWarning, match="study s: no readable radiograph"):
        assert NetworkClassifier(CONFIG, str(checkpoint)).classify(Study("s", [], [])).tolist() == [0.25] * 4


def test_another_model_is_refused(checkpoint, tmp_path):
    with pytest.raises(CheckpointError, match="has it other classes, or no head"):
        NetworkClassifier("configs/small/r18_nih.py", str(checkpoint))
    with pytest.raises(ConfigError, match="its model is no classifier"):
        NetworkClassifier("configs/phantom/frcnn_r18_phantom.py", str(checkpoint))
    with pytest.raises(ConfigError, match="aggregate"):
        NetworkClassifier(CONFIG, str(checkpoint), aggregate="median")
    torch.save({"state_dict": {"fc.weight": torch.ones(1)}}, tmp_path / "b.pth")
    with pytest.raises(CheckpointError, match="does not fit"):
        NetworkClassifier(CONFIG, str(tmp_path / "b.pth"))
