"""Mixed precision, parameter groups and schedules."""

import math

import pytest
import torch
from mmengine.optim import LinearLR
from mmengine.registry import OPTIM_WRAPPERS, PARAM_SCHEDULERS
from torch import nn

from covidmm.engine.optimization import (
    MixedPrecisionOptimWrapper,
    NamedGroupsConstructor,
    SteppedCosineLR,
    WarmupLR,
    for_this_machine,
)


def build_wrapper(**kwargs):
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


UNITS = {"avx512_bf16": True}


@pytest.mark.parametrize(("units", "on_a_cpu"), [(UNITS, torch.bfloat16), ({"avx512_f": True}, torch.float32)])
def test_the_forward_pass_runs_in_half_precision_where_it_is_faster_and_weights_stay_float32(
    units, on_a_cpu, monkeypatch
):
    lines = []
    monkeypatch.setattr("covidmm.engine.optimization.print_log", lambda line, **_: lines.append(line))
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units, raising=False)
    model, wrapper = build_wrapper()
    assert len(lines) == (on_a_cpu is torch.float32)
    before = model.weight.detach().clone()
    output = step(model, wrapper)
    assert output.dtype == (torch.float16 if torch.cuda.is_available() else on_a_cpu)
    assert model.weight.dtype == torch.float32
    assert not torch.equal(before, model.weight)


@pytest.mark.parametrize(("gpu", "kind"), [(True, "AmpOptimWrapper"), (False, "MixedPrecisionOptimWrapper")])
def test_mmengines_mixed_precision_is_replaced_where_it_cannot_run(gpu, kind, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    config = {"type": "AmpOptimWrapper", "dtype": "float16", "loss_scale": "dynamic", "optimizer": {"type": "SGD"}}
    for_this_machine(config)
    assert config.pop("type") == kind
    assert ("dtype" in config) == gpu
    usual = {"type": "OptimWrapper", "optimizer": {"type": "SGD"}}
    for_this_machine(usual)
    assert usual["type"] == "OptimWrapper"


def test_the_update_is_that_of_float32_within_half_precision(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: UNITS, raising=False)
    model, wrapper = build_wrapper()
    step(model, wrapper)
    torch.manual_seed(0)
    reference = torch.nn.Linear(8, 4)
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.1)
    reference(torch.ones(2, 8)).square().mean().backward()
    optimizer.step()
    assert torch.allclose(model.weight.cpu(), reference.weight, atol=5e-3)


@pytest.mark.parametrize("clip", [None, {"max_norm": 0.01}])
def test_clipping_and_accumulation_work(clip):
    model, wrapper = build_wrapper(clip_grad=clip, accumulative_counts=2)
    before = model.weight.detach().clone()
    step(model, wrapper)
    assert torch.equal(before, model.weight)
    step(model, wrapper)
    moved = (before - model.weight).norm()
    assert moved > 0
    if clip:
        assert moved <= 0.1 * 0.01 * 1.01


def test_its_state_can_be_saved_and_loaded():
    model, wrapper = build_wrapper()
    step(model, wrapper)
    _, other = build_wrapper()
    other.load_state_dict(wrapper.state_dict())
    assert isinstance(other, MixedPrecisionOptimWrapper)
    assert other.state_dict()["param_groups"] == wrapper.state_dict()["param_groups"]


@pytest.fixture
def layers():
    layers = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2), nn.Linear(2, 2))
    layers[4].weight.requires_grad = False
    return layers


def build_groups(layers, **wrapper):
    cfg = {"type": "OptimWrapper", "optimizer": {"type": "SGD", "lr": 0.01, "weight_decay": 0.0005, "momentum": 0.9}}
    return NamedGroupsConstructor(cfg | wrapper)(layers)


def test_only_weights_decay_and_every_trained_parameter_is_in_one_group(layers):
    groups = build_groups(layers).optimizer.param_groups
    assert [group["name"] for group in groups] == ["weight", "norm", "bias"]
    assert [group["weight_decay"] for group in groups] == [0.0005, 0.0, 0.0]
    assert {id(p) for p in groups[0]["params"]} == {id(layers[0].weight), id(layers[3].weight)}
    assert {id(p) for p in groups[1]["params"]} == {id(layers[1].weight)}
    listed = [id(p) for group in groups for p in group["params"]]
    assert sorted(listed) == sorted(id(p) for p in layers.parameters() if p.requires_grad)


def test_the_wrapper_of_the_config_is_built(layers):
    wrapper = build_groups(layers, accumulative_counts=21)
    assert isinstance(wrapper, OPTIM_WRAPPERS.get("OptimWrapper"))
    assert wrapper._accumulative_counts == 21
    assert isinstance(wrapper.optimizer, torch.optim.SGD)


def test_a_model_without_norms_has_no_such_group():
    assert [group["name"] for group in build_groups(nn.Linear(2, 2)).optimizer.param_groups] == ["weight", "bias"]


def rates(epochs: int, **kwargs) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    schedule = SteppedCosineLR(optimizer, **kwargs)
    found = []
    for _ in range(epochs):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_with_single_steps_it_is_torch_cosine_annealing():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20, eta_min=5e-5)
    expected = []
    for _ in range(20):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    assert rates(20, T_max=20, eta_min_ratio=0.05) == pytest.approx(expected)


def test_the_report_schedule_moves_every_other_epoch_and_ends_at_its_floor():
    found = rates(53, T_max=25, eta_min_ratio=0.05, step_every=2)
    assert found[0:50:2] == pytest.approx(found[1:51:2])
    assert found[0] == pytest.approx(1e-3)
    assert found[24] == pytest.approx(1e-3 * (0.05 + 0.95 * (1 + math.cos(math.pi * 12 / 25)) / 2))
    assert found[50:] == pytest.approx([5e-5] * 3)


def test_the_seed_code_schedule_ends_at_about_half():
    assert rates(50, T_max=50, eta_min_ratio=0.05, step_every=2)[-1] / 1e-3 == pytest.approx(0.55, abs=0.03)


def test_state_survives_a_resume():
    kwargs = {"T_max": 5, "eta_min_ratio": 0.05, "step_every": 2}
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    schedule = SteppedCosineLR(optimizer, **kwargs)
    for _ in range(4):
        optimizer.step()
        schedule.step()
    state, optimizer_state = schedule.state_dict(), optimizer.state_dict()
    again = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    again.load_state_dict(optimizer_state)
    resumed = SteppedCosineLR(again, **kwargs)
    resumed.load_state_dict(state)
    again.step()
    resumed.step()
    resumed.step()
    assert again.param_groups[0]["lr"] == pytest.approx(rates(7, **kwargs)[6])


def test_a_warm_up_runs_at_the_same_time():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    schedules = [
        LinearLR(optimizer, start_factor=0.1, begin=0, end=4),
        SteppedCosineLR(optimizer, T_max=5, eta_min_ratio=0.05, step_every=2),
    ]
    found = []
    for _ in range(12):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for schedule in schedules:
            schedule.step()
    alone = rates(12, T_max=5, eta_min_ratio=0.05, step_every=2)
    warm_up = [0.1, 0.4, 0.7] + [1.0] * 9
    assert found == pytest.approx([a * b for a, b in zip(alone, warm_up, strict=True)])


def test_it_is_registered():
    assert PARAM_SCHEDULERS.get("SteppedCosineLR") is SteppedCosineLR


@pytest.mark.parametrize("wrong", [{"T_max": 0}, {"step_every": 0}, {"eta_min_ratio": 1.5}])
def test_impossible_numbers_are_refused(wrong):
    with pytest.raises(ValueError, match=r"at least 1|0\.\.1"):
        rates(1, **{"T_max": 5, "eta_min_ratio": 0.05, **wrong})


def warmed(groups, iterations, **kwargs):
    """Learning rates of each group by iteration, under a warm-up and a cosine of 10 iterations an epoch."""
    optimizer = torch.optim.SGD(
        [{"params": [torch.nn.Parameter(torch.zeros(1))], "name": name} for name in groups], lr=0.01
    )
    warmup = WarmupLR(optimizer, **kwargs)
    cosine = SteppedCosineLR(optimizer, T_max=5, eta_min_ratio=0.05)
    found = []
    for iteration in range(1, iterations + 1):
        found.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        warmup.step()
        if iteration % 10 == 0:
            cosine.step()
    return found


def test_biases_fall_while_the_others_rise_and_all_meet():
    found = warmed(["weight", "bias"], 15, start_factor=0.001, group_start_factors={"bias": 10.0}, end=8)
    weight, bias = zip(*found, strict=True)
    assert weight[0] == pytest.approx(1e-5)
    assert bias[0] == pytest.approx(0.1)
    assert weight[4] == pytest.approx(0.01 * (0.001 + 0.999 * 4 / 7))
    assert bias[4] == pytest.approx(0.01 * (10 - 9 * 4 / 7))
    assert weight[8:10] == pytest.approx([0.01] * 2)
    assert bias[8:] == pytest.approx(weight[8:])


def test_a_warm_up_that_outlasts_an_epoch_scales_what_the_cosine_makes():
    found = warmed(["weight"], 25, start_factor=0.5, end=20)
    cosine = [(0.05 + 0.95 * (1 + math.cos(math.pi * epoch / 5)) / 2) * 0.01 for epoch in range(3)]
    assert found[15][0] == pytest.approx(cosine[1] * (0.5 + 0.5 * 15 / 19))
    assert found[24][0] == pytest.approx(cosine[2])


@pytest.mark.parametrize(
    ("wrong", "cause"),
    [
        ({"start_factor": 0.0}, "positive"),
        ({"start_factor": 0.1, "group_start_factors": {"bias": -1.0}}, "positive"),
        ({"start_factor": 0.1, "group_start_factors": {"biases": 10.0}}, "no parameter group is named 'biases'"),
        ({"start_factor": 0.1, "begin": 4}, "shorter than two steps"),
    ],
)
def test_a_warm_up_that_cannot_be_is_refused(wrong, cause):
    with pytest.raises(ValueError, match=cause):
        warmed(["weight", "bias"], 1, end=5, **wrong)
