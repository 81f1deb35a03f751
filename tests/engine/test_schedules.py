"""Which schedules fit a run: MMEngine's, by epoch and by iteration."""

import pytest
import torch
from mmengine.registry import PARAM_SCHEDULERS

import covidmm.registration  # noqa: F401 - registers the schedulers
from covidmm.engine.schedules import schedule_misfits

WARMUP = {"type": "LinearLR", "start_factor": 0.1, "by_epoch": False, "end": 50}
STEPS = {"type": "MultiStepLR", "milestones": [8, 11]}


def built(*configs, epochs=12, iterations=1200):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    found = []
    for one in configs:
        one.setdefault("end", epochs if one.get("by_epoch", True) else iterations)  # as MMEngine's runner
        found.append(PARAM_SCHEDULERS.build({**one, "optimizer": optimizer, "epoch_length": 100}))
    return found


@pytest.mark.parametrize(
    "configs",
    [
        [{"type": "SteppedCosineLR", "eta_min_ratio": 0.05, "step_every": 5}],
        [{"type": "CosineAnnealingLR"}],
        [{"type": "CosineAnnealingLR", "T_max": 12, "convert_to_iter_based": True}],
        [{"type": "PolyLR", "by_epoch": False}],
        [{**WARMUP}, {**STEPS}],
        [{**WARMUP}],  # constant from there on
        [
            {**WARMUP},
            {"type": "CosineAnnealingLR", "begin": 1, "T_max": 9, "end": 10},
            {"type": "ConstantLR", "begin": 10},
        ],
        [{"type": "OneCycleLR", "eta_max": 0.1, "total_steps": 12}],
        [{"type": "LinearMomentum", "start_factor": 0.5, "by_epoch": False, "end": 50}],
        [{"type": "ReduceOnPlateauLR", "monitor": "loss"}],
        [],
    ],
)
def test_what_fits(configs):
    assert schedule_misfits(built(*configs), 12, 1200) == []


@pytest.mark.parametrize(
    ("configs", "line"),
    [
        (
            [{"type": "SteppedCosineLR", "eta_min_ratio": 0.05, "T_max": 6}],
            "SteppedCosineLR ends after 6 epochs, the run after 12: lr is not annealed from there on",
        ),
        (
            [{**WARMUP}, {**STEPS, "milestones": [2], "end": 6}],
            "MultiStepLR ends after 6 epochs, the run after 12: lr is",
        ),
        ([{**STEPS, "milestones": [8, 16, 22]}], "MultiStepLR has milestones at 16, 22 epochs, the run after 12"),
        ([{**STEPS, "end": 24}], "MultiStepLR ends after 24 epochs, the run after 12"),
        ([{**WARMUP, "end": 5000}], "LinearLR ends after 5000 iterations, the run after 1200"),
        ([{"type": "StepLR", "step_size": 30}], "StepLR steps after 30 epochs first, the run ends after 12"),
        (
            [{"type": "CosineAnnealingLR", "T_max": 30}],
            "CosineAnnealingLR reaches its end after 30 epochs, the run after",
        ),
        (
            [{"type": "CosineRestartLR", "periods": [3, 3], "restart_weights": [1, 1], "eta_min": 0}],
            "CosineRestartLR ends after 6 epochs, the run",
        ),
        (
            [{"type": "CosineAnnealingMomentum", "T_max": 6}, {"type": "CosineAnnealingLR"}],
            "CosineAnnealingMomentum ends after 6 epochs, the run after 12: momentum is not annealed",
        ),
        ([{"type": "PolyLR", "by_epoch": False, "end": 600}], "PolyLR ends after 600 iterations, the run after 1200"),
    ],
)
def test_what_ends_before_or_after_its_run_is_said(configs, line):
    (found,) = schedule_misfits(built(*configs), 12, 1200)
    assert found.startswith(line)


def test_a_schedule_by_epoch_never_acts_in_a_run_that_counts_iterations():
    (found,) = schedule_misfits(built({"type": "CosineAnnealingLR"}, {**WARMUP}, epochs=1), 0, 1200)
    assert found.startswith("CosineAnnealingLR counts epochs in a run that counts iterations")
