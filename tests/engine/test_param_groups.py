import pytest
import torch
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

from covidmm.engine.param_groups import NamedGroupsConstructor


@pytest.fixture
def model():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2), nn.Linear(2, 2))
    model[4].weight.requires_grad = False
    return model


def build(model, **wrapper):
    cfg = {"type": "OptimWrapper", "optimizer": {"type": "SGD", "lr": 0.01, "weight_decay": 0.0005, "momentum": 0.9}}
    return NamedGroupsConstructor(cfg | wrapper)(model)


def test_only_weights_decay_and_every_trained_parameter_is_in_one_group(model):
    groups = build(model).optimizer.param_groups
    assert [group["name"] for group in groups] == ["weight", "norm", "bias"]
    assert [group["weight_decay"] for group in groups] == [0.0005, 0.0, 0.0]
    assert {id(p) for p in groups[0]["params"]} == {id(model[0].weight), id(model[3].weight)}
    assert {id(p) for p in groups[1]["params"]} == {id(model[1].weight)}
    listed = [id(p) for group in groups for p in group["params"]]
    assert sorted(listed) == sorted(id(p) for p in model.parameters() if p.requires_grad)


def test_the_wrapper_of_the_config_is_built(model):
    wrapper = build(model, accumulative_counts=21)
    assert isinstance(wrapper, OPTIM_WRAPPERS.get("OptimWrapper"))
    assert wrapper._accumulative_counts == 21
    assert isinstance(wrapper.optimizer, torch.optim.SGD)


def test_a_model_without_norms_has_no_such_group():
    assert [group["name"] for group in build(nn.Linear(2, 2)).optimizer.param_groups] == ["weight", "bias"]
