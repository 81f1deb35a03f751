"""What a resumed training takes from its checkpoint, and what from its config.

The checkpoint gives what was learned: weights, averaged weights, the optimizer's averages, the epoch, the log, and the
random seed. The config gives everything that steers: learning rates and their schedule, momentum, weight decay, the
length of the run. So a run that is resumed for more epochs continues with the learning rates that a run of that length
has, and one whose config is unchanged continues exactly.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.hooks import EMAHook
from mmengine.optim import OptimWrapperDict
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler
from mmengine.runner import IterBasedTrainLoop, Runner

from covidmm.engine.schedules import schedules_of
from covidmm.errors import CheckpointError

#: What a scheduler that follows a metric learns from it, and counters; the rest are its settings.
_LEARNED = ("last_step", "_global_step", "_last_value", "best", "num_bad_epochs", "cooldown_counter", "base_values")


def follow_config(runner: Runner, checkpoint: dict[str, Any], source: str) -> None:
    """Make a checkpoint fit the config of the run that resumes it, before MMEngine restores the run from it.

    Args:
        runner: about to resume.
        checkpoint: as loaded; changed in place.
        source: its name, for messages.

    Raises:
        CheckpointError: it is of another optimizer, of a schedule that cannot follow the config, or of a training that
            counts epochs where this one counts iterations, or the other way round.
    """
    _require_same_unit(runner, checkpoint["meta"], source)
    _keep_seed(runner, checkpoint["meta"])
    _drop_averages(runner, checkpoint)
    if not _left(runner, checkpoint["meta"]):
        return
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    if runner.param_schedulers is not None:
        runner.param_schedulers = runner.build_param_scheduler(runner.param_schedulers)
    several = isinstance(runner.optim_wrapper, OptimWrapperDict)
    wrappers = dict(runner.optim_wrapper.items()) if several else {"": runner.optim_wrapper}
    states = checkpoint["optimizer"] if several else {"": checkpoint["optimizer"]}
    schedules = schedules_of(runner)
    saved = checkpoint.get("param_schedulers") or []
    followed = {}
    for name, wrapper in wrappers.items():
        # with several groups, MMEngine adds one of no parameters, from which it logs the base learning rate
        base, groups = states[name].get("base_param_settings"), wrapper.param_groups
        old = [*states[name]["param_groups"], *([base] if base else [])]
        if len(old) != len(groups):
            raise CheckpointError(
                f"{source}: its optimizer has {len(old)} groups of parameters, that of the config {len(groups)}; "
                f"to start from its weights: --cfg-options load_from={source}"
            )
        _require_same_optimizer(groups, old, source)
        mine = schedules.get(name, [])
        if any(getattr(one, "need_val_args", False) for one in mine):
            followed[name] = _keep_plateau(mine, saved[name] if isinstance(saved, Mapping) else saved, source)
            scheduled = {one.param_name for one in mine}
            _keep_initial(groups, old, scheduled, source)
        else:
            _replay(mine, checkpoint["meta"]["epoch"], checkpoint["meta"]["iter"])
            followed[name] = [one.state_dict() for one in mine]
            scheduled = set()
        _take(runner, groups, old, scheduled)
    checkpoint["param_schedulers"] = followed if several else followed.get("", saved)


def _left(runner: Runner, meta: Mapping[str, Any]) -> bool:
    loop = runner.train_loop
    if isinstance(loop, IterBasedTrainLoop):
        return meta["iter"] < loop.max_iters
    return meta["epoch"] < loop.max_epochs


def _require_same_unit(runner: Runner, meta: Mapping[str, Any], source: str) -> None:
    iterations = isinstance(runner.train_loop, IterBasedTrainLoop)
    # a training that counts iterations stays in its epoch 0
    if meta["iter"] and iterations == bool(meta["epoch"]):
        was, now = ("epochs", "iterations") if iterations else ("iterations", "epochs")
        raise CheckpointError(
            f"{source}: cannot be resumed, its training counted {was}, train_cfg counts {now}; "
            f"to start from its weights: --cfg-options load_from={source}"
        )


def _keep_seed(runner: Runner, meta: Mapping[str, Any]) -> None:
    """Record the seed that MMEngine keeps."""
    kept, asked = meta.get("seed"), runner._randomness_cfg.get("seed")
    if kept is not None and asked is not None and kept != asked:
        runner.logger.warning(
            "resume: randomness.seed is %s in the config: not taken, a resumed training keeps its seed %s", asked, kept
        )
        runner.cfg.merge_from_dict({"randomness.seed": kept})


def _drop_averages(runner: Runner, checkpoint: dict[str, Any]) -> None:
    """Continue from the weights that were trained where the config averages them no longer."""
    averaging = any(isinstance(hook, EMAHook) for hook in runner.hooks)
    if averaging or "ema_state_dict" not in checkpoint:
        return
    runner.logger.warning("resume: the config has no EMAHook: the averaged weights of the checkpoint are not taken")
    for name, value in checkpoint.pop("ema_state_dict").items():
        if name.startswith("module."):  # MMEngine saves the trained weights in the place of the averaged ones
            checkpoint["state_dict"][name.removeprefix("module.")] = value


def _require_same_optimizer(groups: Sequence[Mapping], old: Sequence[Mapping], source: str) -> None:
    """Refuse the state of another optimizer: each of the two has a setting that the other lacks."""
    for new, was in zip(groups, old, strict=True):
        asked, had = (sorted(k for k in set(a) - set(b) if "initial_" not in k) for a, b in ((new, was), (was, new)))
        if asked and had:
            raise CheckpointError(
                f"{source}: cannot be resumed with this optimizer, whose settings are {', '.join(asked)} where the "
                f"checkpoint has {', '.join(had)}; to start from its weights: --cfg-options load_from={source}"
            )


def _replay(schedulers: Sequence[_ParamScheduler], epochs: int, iterations: int) -> None:
    """Bring new schedulers to where they would be, step by step: exactly the numbers of an undisturbed run."""
    each = [one for one in schedulers if not one.by_epoch]
    whole = [one for one in schedulers if one.by_epoch]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the optimizer was not stepped between
        for epoch in range(epochs):
            _step(each, iterations * (epoch + 1) // epochs - iterations * epoch // epochs)
            _step(whole, 1)
        if not epochs:
            _step(each, iterations)


def _step(schedulers: Sequence[_ParamScheduler], steps: int) -> None:
    """Step schedulers in turn; after the end of all, where they change nothing, in one go."""
    acting = max((min(steps, one.end - 1 - one._global_step) for one in schedulers), default=0)
    for _ in range(acting):
        for one in schedulers:
            one.step()
    if (rest := steps - max(acting, 0)) > 0:
        for one in schedulers:
            one._global_step += rest - 1
            one.step()


def _keep_plateau(schedulers: Sequence[_ParamScheduler], saved: Sequence[Mapping], source: str) -> list[dict[str, Any]]:
    """The saved states of schedulers of which one follows a metric: only their end may be another."""
    if len(schedulers) != len(saved):
        raise CheckpointError(f"{source}: has {len(saved)} schedulers, the config {len(schedulers)}; {_FRESH}")
    states = []
    for one, was in zip(schedulers, saved, strict=True):
        settings = {key: value for key, value in one.state_dict().items() if key not in (*_LEARNED, "end")}
        for key, value in settings.items():
            if isinstance(value, bool | int | float | str) and was.get(key) != value:
                raise CheckpointError(
                    f"{source}: {type(one).__name__} has {key} {was.get(key)}, the config {value}; {_FRESH}"
                )
        states.append({**was, "end": one.end})
    return states


_FRESH = "a schedule that follows a metric cannot be changed in a resumed training, start a new one with load_from"


def _keep_initial(groups: Sequence[Mapping], old: Sequence[Mapping], scheduled: set[str], source: str) -> None:
    for new, was in zip(groups, old, strict=True):
        for key in (f"initial_{name}" for name in scheduled):
            if key in was and was[key] != new.get(key):
                raise CheckpointError(f"{source}: has {key} {was[key]}, the config {new.get(key)}; {_FRESH}")


def _take(runner: Runner, groups: Sequence[Mapping], old: Sequence[dict], keep: set[str]) -> None:
    """Write the config's settings into the saved parameter groups, and log those that change."""
    changes: dict[str, None] = {}
    for new, was in zip(groups, old, strict=True):
        for key, value in new.items():
            if key == "params" or key in keep:
                continue
            if key in was and was[key] != value and not (isinstance(value, tuple) and tuple(was[key]) == value):
                changes[f"resume: {key} is {value} from the config, the checkpoint has {was[key]}"] = None
            was[key] = value
    for line in changes:
        runner.logger.info(line)
