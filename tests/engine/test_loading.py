import pytest
import torch
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope

from covidmm.engine.config import load_config
from covidmm.engine.loading import load_trained
from covidmm.errors import CheckpointError

CONFIG = "configs/phantom/yolov5n_phantom.py"


def test_weights_and_meta_come_back(tmp_path):
    init_default_scope("mmdet")
    model = MODELS.build(load_config(CONFIG).model)
    torch.save({"state_dict": model.state_dict(), "meta": {"epoch": 3}}, tmp_path / "a.pth")
    again, meta = load_trained(load_config(CONFIG), tmp_path / "a.pth")
    assert meta == {"epoch": 3}
    assert not again.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_another_models_checkpoint_is_refused(tmp_path):
    torch.save({"state_dict": {"backbone.stem.weight": torch.zeros(3)}}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="does not fit the model"):
        load_trained(load_config(CONFIG), tmp_path / "a.pth")
