"""The weights in a checkpoint, whatever the trainer that wrote it called them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from covidmm.errors import CheckpointError

#: Where checkpoints keep their weights; averaged ones before those that they are the average of.
_STATE_KEYS = (
    *("state_dict", "model_state_dict", "ema_state_dict", "state_dict_ema", "model_ema", "ema", "model"),
    *("net", "network", "weights", "params", "module"),
)
#: What wrappers put before the names of all weights.
_WRAPPERS = ("module.", "model.", "_orig_mod.", "net.", "detector.")
#: Of torch.optim.swa_utils.AveragedModel and MMEngine's EMA, beside the weights.
_EMA_COUNTER = "n_averaged"


def weights_in(content: Any) -> Mapping[str, Any]:
    """The state dict in a checkpoint of any common form, under the names that it has there.

    Raises:
        CheckpointError: it holds none; says what it holds instead.
    """
    state = content
    while isinstance(state, Mapping):
        inner = next((key for key in _STATE_KEYS if isinstance(state.get(key), Mapping)), None)
        if inner is None:
            break
        state = state[inner]
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        raise CheckpointError("the checkpoint holds no state dict, names and their tensors")
    if state and state is content and not any(isinstance(value, Tensor) for value in state.values()):
        shown = ", ".join(list(state)[:5])
        what = "an optimizer's state" if {"param_groups", "optimizer"} & state.keys() else "nothing that covidmm reads"
        raise CheckpointError(f"the checkpoint holds no weights, but {what} ({shown})")
    return state


def state_of(checkpoint: Mapping[str, Any], prefix: str = "") -> dict[str, Tensor]:
    """The weights in a checkpoint of any common form, without what wrappers put before names, and without ``prefix``.

    Args:
        checkpoint: a state dict, or a dict that holds one under ``state_dict``, ``model_state_dict``, ``ema``,
            ``model``, ...; the names of all of them may begin with ``module.`` (data parallel, EMA), ``model.``
            (Lightning and other wrappers) or ``_orig_mod.`` (compiled).
        prefix: keep only names that begin so (``backbone.``), stripped of it.

    Raises:
        CheckpointError: ``prefix`` is nowhere in it, or there are no named weights.
    """
    state = as_named = {name: value for name, value in weights_in(checkpoint).items() if name != _EMA_COUNTER}
    while wrapper := next((one for one in _WRAPPERS if state and all(name.startswith(one) for name in state)), None):
        state = {name.removeprefix(wrapper): value for name, value in state.items()}
    state = {re.sub(r"^module\.", "", name): value for name, value in state.items()}
    if not prefix:
        return state
    prefix = prefix.rstrip(".") + "."
    for named in (as_named, state):
        if part := {name.removeprefix(prefix): value for name, value in named.items() if name.startswith(prefix)}:
            return part
    raise CheckpointError(f"no parameter of the checkpoint begins with '{prefix}'")
