"""Optimization: mixed precision, parameter groups, learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.optim import AmpOptimWrapper, DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
from mmengine.optim.scheduler.param_scheduler import INF, _ParamScheduler
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS, PARAM_SCHEDULERS
from torch import nn

from covidmm.utils.precision import fastest_precision

#: In the order in which they reach the optimizer; the log shows the learning rate of the first.
GROUPS = ("weight", "norm", "bias")


@OPTIM_WRAPPERS.register_module()
class MixedPrecisionOptimWrapper(AmpOptimWrapper):
    """Mixed precision by torch autocast: float16 with loss scaling on CUDA, bfloat16 without it on a CPU.

    MMEngine's own wrapper refuses to run without a GPU. bfloat16 has float32's exponent range, so gradients
    do not underflow and the loss needs no scaling. A CPU without units for bfloat16 computes in float32, and the log
    says so.

    Args:
        loss_scale: as :class:`mmengine.optim.AmpOptimWrapper`; CUDA only.
        **kwargs: passed to :class:`mmengine.optim.OptimWrapper`.
    """

    def __init__(self, loss_scale: str | float | dict = "dynamic", **kwargs: Any) -> None:
        if torch.cuda.is_available():
            super().__init__(loss_scale=loss_scale, dtype="float16", **kwargs)
        else:
            OptimWrapper.__init__(self, **kwargs)
            self.loss_scaler = torch.amp.GradScaler("cpu", enabled=False)
            self._scale_update_param = None
            precision = fastest_precision("cpu")
            self.cast_dtype = None if precision == "float32" else getattr(torch, precision)
            if self.cast_dtype is None:
                print_log("mixed precision: this CPU has no units for bfloat16: float32", logger="current")

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """The forward pass in lower precision, where there is one."""
        with OptimWrapper.optim_context(self, model) if self.cast_dtype is None else super().optim_context(model):
            yield


def for_this_machine(optim_wrapper: MutableMapping[str, Any]) -> None:
    """Put covidmm's mixed precision in the place of MMEngine's, which refuses to run without a GPU; in place."""
    if optim_wrapper.get("type") == "AmpOptimWrapper" and not torch.cuda.is_available():
        optim_wrapper["type"] = MixedPrecisionOptimWrapper.__name__
        optim_wrapper.pop("dtype", None)
        print_log("optim_wrapper: AmpOptimWrapper needs a GPU, MixedPrecisionOptimWrapper takes its place", "current")


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class NamedGroupsConstructor(DefaultOptimWrapperConstructor):
    """Three named groups instead of one per parameter: ``weight``, ``norm`` and ``bias``.

    Only ``weight``, the weights of convolutions and linear layers, decays. ``norm`` holds the scales of
    normalisation layers and ``bias`` every bias. Frozen parameters are left out. A scheduler can treat a group
    by its name (:class:`WarmupLR`).
    """

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimizer of ``model`` and its wrapper."""
        model = getattr(model, "module", model)
        groups: dict[str, list[nn.Parameter]] = {name: [] for name in GROUPS}
        for name, parameter in model.named_parameters():  # each once, shared ones too
            if not parameter.requires_grad:
                continue
            kind = "bias" if name.endswith("bias") else "norm" if parameter.ndim == 1 else "weight"
            groups[kind].append(parameter)
        listed = [{"params": params, "name": name} for name, params in groups.items() if params]
        for group in listed:
            if group["name"] != "weight":
                group["weight_decay"] = 0.0
        optimizer = OPTIMIZERS.build({**self.optimizer_cfg, "params": listed})
        return OPTIM_WRAPPERS.build(self.optim_wrapper_cfg, default_args={"optimizer": optimizer})


@PARAM_SCHEDULERS.register_module()
class SteppedCosineLR(LRSchedulerMixin, _ParamScheduler):
    r"""Cosine annealing to a floor that moves only every few epochs: report, section 3.1, equation (1).

    In epoch :math:`e` the learning rate is

    .. math:: \eta_e = \eta_0 \left(f + (1 - f) \frac{1 + \cos(\pi \min(s, T) / T)}{2}\right),
              \qquad s = \lfloor e / k \rfloor

    with floor :math:`f` = ``eta_min_ratio``, :math:`k` = ``step_every`` and :math:`T` = ``T_max`` counted in
    *steps*. The report's code counted T in epochs while stepping every second one, so its rate ended at 0.53
    of the start instead of at the floor.

    As with MMEngine's ``CosineAnnealingLR``, a config that gives neither ``T_max`` nor ``end`` anneals over its
    whole run, however long that is.

    Args:
        optimizer: optimizer or optim wrapper.
        eta_min_ratio: the floor as a share of the initial value, 0..1.
        T_max: steps from the initial value to the floor; those between ``begin`` and ``end`` by default.
        step_every: epochs (iterations where ``by_epoch=False``) between two steps.
        begin, end, last_step, by_epoch, verbose: as in every MMEngine scheduler, whose runner gives ``end``.

    Raises:
        ValueError: ``T_max`` or ``step_every`` below 1, neither ``T_max`` nor ``end``, or a floor outside 0..1.
    """

    def __init__(
        self,
        optimizer: Any,
        eta_min_ratio: float,
        T_max: int | None = None,  # noqa: N803 - the name that MMEngine's and torch's schedulers use
        step_every: int = 1,
        begin: int = 0,
        end: int = INF,
        last_step: int = -1,
        by_epoch: bool = True,
        verbose: bool = False,
    ) -> None:
        if (T_max is not None and T_max < 1) or step_every < 1:
            raise ValueError(f"T_max and step_every must be at least 1, not {T_max} and {step_every}")
        if T_max is None and end == INF:
            raise ValueError("a SteppedCosineLR needs T_max or end")
        if not 0 <= eta_min_ratio <= 1:
            raise ValueError(f"eta_min_ratio must lie in 0..1, not {eta_min_ratio}")
        self.T_max = T_max or -(-(end - begin) // step_every)
        self.eta_min_ratio = eta_min_ratio
        self.step_every = step_every
        super().__init__(optimizer, begin, end, last_step, by_epoch, verbose)

    @classmethod
    def build_iter_from_epoch(
        cls, *args: Any, epoch_length: int, begin: int = 0, end: int = INF, step_every: int = 1, **kwargs: Any
    ) -> SteppedCosineLR:
        """Build it for iterations from arguments that count epochs: ``convert_to_iter_based=True`` in a config."""
        times = _in_iterations(epoch_length, begin, end)
        return cls(*args, **{**kwargs, **times, "step_every": step_every * epoch_length})

    def _get_value(self) -> list[float]:
        # Relative to the present value, as MMEngine's own, so that a warm-up can run at the same time.
        values = [group[self.param_name] for group in self.optimizer.param_groups]
        if self.last_step == 0 or self._factor(self.last_step - 1) == 0:
            return values
        change = self._factor(self.last_step) / self._factor(self.last_step - 1)
        return [value * change for value in values]

    def _factor(self, epoch: int) -> float:
        step = min(epoch // self.step_every, self.T_max)
        cosine = (1 + math.cos(math.pi * step / self.T_max)) / 2
        return self.eta_min_ratio + (1 - self.eta_min_ratio) * cosine


@PARAM_SCHEDULERS.register_module()
class WarmupLR(LRSchedulerMixin, _ParamScheduler):
    """Linear warm-up whose start may differ between named parameter groups.

    The learning rate of a group moves linearly from its start factor to 1 times what other schedulers make of
    it, from ``begin`` to ``end``. YOLOv5 starts biases at ten times their rate and everything else near zero;
    the groups are those of :class:`NamedGroupsConstructor`.

    Args:
        optimizer: optimizer or optim wrapper.
        start_factor: where groups start that ``group_start_factors`` does not name; above 0.
        group_start_factors: start by group name, above 0.
        begin, end, last_step, by_epoch, verbose: as in every MMEngine scheduler.

    Raises:
        ValueError: a factor that is not positive, a name that no group has, or fewer than two steps.
    """

    def __init__(
        self,
        optimizer: Any,
        start_factor: float,
        end: int,
        group_start_factors: dict[str, float] | None = None,
        begin: int = 0,
        last_step: int = -1,
        by_epoch: bool = False,
        verbose: bool = False,
    ) -> None:
        self.start_factor = start_factor
        self.group_start_factors = dict(group_start_factors or {})
        if min(start_factor, *self.group_start_factors.values(), math.inf) <= 0:
            raise ValueError("start factors must be positive")
        unknown = set(self.group_start_factors) - {group.get("name") for group in optimizer.param_groups}
        if unknown:
            raise ValueError(f"no parameter group is named '{unknown.pop()}'; use NamedGroupsConstructor")
        # MMEngine's schedulers act up to the step before 'end'
        self.total_steps = end - begin - 1
        if self.total_steps < 1:
            raise ValueError(f"a warm-up from {begin} to {end} is shorter than two steps")
        super().__init__(optimizer, begin, end, last_step, by_epoch, verbose)

    @classmethod
    def build_iter_from_epoch(cls, *args: Any, epoch_length: int, end: int, begin: int = 0, **kwargs: Any) -> WarmupLR:
        """Build it for iterations from arguments that count epochs: ``convert_to_iter_based=True`` in a config."""
        return cls(*args, **{**kwargs, **_in_iterations(epoch_length, begin, end)})

    def _get_value(self) -> list[float]:
        values = []
        for group in self.optimizer.param_groups:
            start = self.group_start_factors.get(group.get("name"), self.start_factor)
            change = self._factor(start, self.last_step)
            if self.last_step > 0:
                change /= self._factor(start, self.last_step - 1)
            values.append(group[self.param_name] * change)
        return values

    def _factor(self, start: float, step: int) -> float:
        return start + (1 - start) * min(step / self.total_steps, 1)


def _in_iterations(epoch_length: int, begin: int, end: int) -> dict[str, Any]:
    """Begin and end of a scheduler that counts epochs, in iterations, as MMEngine converts its own."""
    return {"begin": begin * epoch_length, "end": end if end == INF else end * epoch_length, "by_epoch": False}
