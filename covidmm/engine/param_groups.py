"""Parameter groups of an optimizer."""

from __future__ import annotations

from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS
from torch import nn

#: In the order in which they reach the optimizer; the log shows the learning rate of the first.
GROUPS = ("weight", "norm", "bias")


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class NamedGroupsConstructor(DefaultOptimWrapperConstructor):
    """Three named groups instead of one per parameter: ``weight``, ``norm`` and ``bias``.

    Only ``weight``, the weights of convolutions and linear layers, decays. ``norm`` holds the scales of
    normalisation layers and ``bias`` every bias. Frozen parameters are left out. A scheduler can treat a group
    by its name (:class:`~covidmm.engine.schedules.WarmupLR`).
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
