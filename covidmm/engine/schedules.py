"""Whether the schedules of a training fit its length."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmengine.optim import OneCycleLR
from mmengine.optim.scheduler.param_scheduler import (
    INF,
    ConstantParamScheduler,
    CosineRestartParamScheduler,
    LinearParamScheduler,
    MultiStepParamScheduler,
    StepParamScheduler,
    _ParamScheduler,
)
from mmengine.runner import IterBasedTrainLoop, Runner


def schedules_of(runner: Runner) -> dict[str, list[_ParamScheduler]]:
    """The built schedulers of a runner by the name of their optimizer, ``''`` where it has only one."""
    built = runner.param_schedulers or []
    return dict(built) if isinstance(built, Mapping) else {"": list(built)}


def misfits(runner: Runner) -> list[str]:
    """One line for each schedule that ends before or after the training that it belongs to.

    Args:
        runner: with a built training loop and built schedulers, MMEngine's or others.
    """
    loop = runner.train_loop
    epochs = 0 if isinstance(loop, IterBasedTrainLoop) else loop.max_epochs
    return [
        f"{name}: {line}" if name else line
        for name, schedulers in schedules_of(runner).items()
        for line in schedule_misfits(schedulers, epochs, loop.max_iters)
    ]


def schedule_misfits(schedulers: Sequence[_ParamScheduler], epochs: int, iterations: int) -> list[str]:
    """One line for each schedule of an optimizer that does not fit a run.

    A warm-up may end before the run; a schedule that anneals and then stays where it is may not, unless another one
    follows it.

    Args:
        schedulers: built.
        epochs: of the run, 0 where its loop counts iterations.
        iterations: of the run.
    """
    found, acting = [], []
    for one in schedulers:
        length = epochs if one.by_epoch else iterations
        late = _never(one) if not length else _late(one, length)
        if late:
            found.append(f"{type(one).__name__} {late}")
        else:
            acting.append(one)
    for parameter in dict.fromkeys(one.param_name for one in acting):
        found += _early([one for one in acting if one.param_name == parameter], epochs, iterations)
    return found


def _never(one: _ParamScheduler) -> str:
    return "counts epochs in a run that counts iterations, and never acts: it needs by_epoch=False"


def _late(one: _ParamScheduler, length: int) -> str:
    """What of a schedule lies after the end of the run, or nothing."""
    unit = _unit(one)
    run = f"the run after {length}"
    if length < one.end < INF:
        return f"ends after {one.end} {unit}, {run}"
    if isinstance(one, MultiStepParamScheduler):
        beyond = sorted(one.begin + milestone for milestone in one.milestones if one.begin + milestone >= length)
        return f"has milestones at {_listed(beyond)} {unit}, {run}" if beyond else ""
    if isinstance(one, StepParamScheduler):
        first = one.begin + one.step_size
        return f"steps after {first} {unit} first, the run ends after {length}" if first >= length else ""
    # a floor that is reached within the last step counts
    reached = _target(one)
    if reached - getattr(one, "step_every", 1) >= length:
        return f"reaches its end after {reached} {unit}, {run}"
    return ""


def _early(schedulers: Sequence[_ParamScheduler], epochs: int, iterations: int) -> list[str]:
    """A line where the last schedule of a parameter ends before the run, and is no warm-up."""
    if all(_rises(one) for one in schedulers):
        return []

    def share(one: _ParamScheduler) -> float:
        return min(one.end, _target(one)) / (epochs if one.by_epoch else iterations)

    last = max(schedulers, key=share)
    if share(last) >= 1:
        return []
    return [
        f"{type(last).__name__} ends after {min(last.end, _target(last))} {_unit(last)}, the run after "
        f"{epochs if last.by_epoch else iterations}: {last.param_name} is not annealed from there on"
    ]


def _target(one: _ParamScheduler) -> int:
    """The step at which a schedule is where it wants to go; its ``end`` where it has no goal of its own."""
    if hasattr(one, "T_max"):
        return one.begin + one.T_max * getattr(one, "step_every", 1)
    if isinstance(one, CosineRestartParamScheduler):
        return one.begin + sum(one.periods)
    return one.begin + one.total_steps if isinstance(one, OneCycleLR) else one.end


def _rises(one: _ParamScheduler) -> bool:
    """Whether it is a warm-up, after which the value is the optimizer's own."""
    linear = isinstance(one, LinearParamScheduler) and one.start_factor <= one.end_factor
    return linear or isinstance(one, ConstantParamScheduler) or "Warmup" in type(one).__name__


def _unit(one: _ParamScheduler) -> str:
    return "epochs" if one.by_epoch else "iterations"


def _listed(numbers: Iterable[Any]) -> str:
    return ", ".join(map(str, numbers))
