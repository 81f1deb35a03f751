import pytest
import torch
from mmengine.registry import OPTIM_WRAPPERS

from covidmm.engine.mixed_precision import MixedPrecisionOptimWrapper


def build(**kwargs):
    torch.manual_seed(0)
    model = torch.nn.Linear(8, 4)
    model = model.cuda() if torch.cuda.is_available() else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return model, OPTIM_WRAPPERS.build({"type": "MixedPrecisionOptimWrapper", "optimizer": optimizer, **kwargs})


def step(model, wrapper):
    data = torch.ones(2, 8, device=next(model.parameters()).device)
    with wrapper.optim_context(model):
        output = model(data)
        loss = output.float().square().mean()
    wrapper.update_params(loss)
    return output


def test_the_forward_pass_runs_in_half_precision_and_weights_stay_float32():
    model, wrapper = build()
    before = model.weight.detach().clone()
    output = step(model, wrapper)
    assert output.dtype == (torch.float16 if torch.cuda.is_available() else torch.bfloat16)
    assert model.weight.dtype == torch.float32
    assert not torch.equal(before, model.weight)


def test_the_update_is_that_of_float32_within_half_precision():
    model, wrapper = build()
    step(model, wrapper)
    torch.manual_seed(0)
    reference = torch.nn.Linear(8, 4)
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.1)
    reference(torch.ones(2, 8)).square().mean().backward()
    optimizer.step()
    assert torch.allclose(model.weight.cpu(), reference.weight, atol=5e-3)


@pytest.mark.parametrize("clip", [None, {"max_norm": 0.01}])
def test_clipping_and_accumulation_work(clip):
    model, wrapper = build(clip_grad=clip, accumulative_counts=2)
    before = model.weight.detach().clone()
    step(model, wrapper)
    assert torch.equal(before, model.weight)
    step(model, wrapper)
    moved = (before - model.weight).norm()
    assert moved > 0
    if clip:
        assert moved <= 0.1 * 0.01 * 1.01


def test_its_state_can_be_saved_and_loaded():
    model, wrapper = build()
    step(model, wrapper)
    _, other = build()
    other.load_state_dict(wrapper.state_dict())
    assert isinstance(other, MixedPrecisionOptimWrapper)
    assert other.state_dict()["param_groups"] == wrapper.state_dict()["param_groups"]
