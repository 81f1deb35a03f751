"""What ``init_cfg=dict(type="Pretrained", ...)`` does in a config: MMEngine's initializer, with checks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mmengine.model import update_init_info
from mmengine.registry import WEIGHT_INITIALIZERS
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from covidmm.errors import CheckpointError
from covidmm.models.checkpoints import MINIMUM_SHARE, Coverage, coverage, require_coverage
from covidmm.models.state_dicts import state_of


@WEIGHT_INITIALIZERS.register_module(name="Pretrained", force=True)
class CheckedPretrainedInit:
    """MMEngine's ``Pretrained`` initializer, refusing a checkpoint that does not fit.

    Args:
        checkpoint: path or scheme, such as ``covidmm://x101_nih``.
        prefix: the part of the checkpoint to load, such as ``backbone.``.
        map_location: as :func:`torch.load`.
        minimum_share: share of the module's values that must be filled.
    """

    def __init__(
        self,
        checkpoint: str,
        prefix: str | None = None,
        map_location: str = "cpu",
        minimum_share: float = MINIMUM_SHARE,
    ) -> None:
        self.checkpoint = checkpoint
        self.prefix = prefix
        self.map_location = map_location
        self.minimum_share = minimum_share

    def __call__(self, module: nn.Module) -> None:
        """Fill ``module``, or raise :class:`CheckpointError` where too little of it is filled."""
        loaded = CheckpointLoader.load_checkpoint(self.checkpoint, self.map_location)
        try:
            state = state_of(loaded, self.prefix or "")
        except CheckpointError as error:
            raise CheckpointError(f"{self.checkpoint}: {error}") from error
        if not self.prefix and all(name in state for name in map("backbone.{}".format, module.state_dict())):
            state = state_of(state, "backbone.")  # a whole detector is given, to start a backbone from
        found = coverage(module.state_dict(), state)
        require_coverage(found, self.checkpoint, self.minimum_share)
        _require_depth(module, found, self.checkpoint)
        dropped = {*found.mismatched, *found.unused}
        module.load_state_dict({k: v for k, v in state.items() if k not in dropped}, strict=False)
        if hasattr(module, "_params_init_info"):
            update_init_info(module, init_info=f"Pretrained: load from {self.checkpoint}")


def without_pretraining(config: Any) -> Any:
    """A model's config without the files that its parts begin from, at any depth: a checkpoint replaces them all.

    Args:
        config: a dict, or a part of one.

    Returns:
        A copy. ``init_cfg`` loads no file any more; ``pretrained`` is None, or False where it was True (timm's
        backbones); a teacher's checkpoint is None.
    """
    if isinstance(config, Mapping):
        copied = {key: without_pretraining(value) for key, value in config.items()}
        for key in ("pretrained", "teacher_ckpt"):
            if isinstance(copied.get(key), str):
                copied[key] = None
        if copied.get("pretrained") is True:
            copied["pretrained"] = False
        if _loads_file(copied.get("init_cfg")):
            copied["init_cfg"] = None
        return copied
    if isinstance(config, list | tuple):
        return type(config)(without_pretraining(value) for value in config)
    return config


def _loads_file(init_cfg: Any) -> bool:
    parts = init_cfg if isinstance(init_cfg, list) else [init_cfg]
    return any(isinstance(part, Mapping) and part.get("checkpoint") for part in parts)


def _require_depth(module: nn.Module, found: Coverage, source: str) -> None:
    """Refuse a backbone of more blocks: its first ones would fill the model, and the others be lost without a word.

    Raises:
        CheckpointError: the checkpoint has blocks of a stage that the model lacks.
    """
    part = "backbone." if hasattr(module, "backbone") else ""
    parts = {name.rpartition(".")[0] for name in module.state_dict()}
    stages = {match.group(1) for name in parts if (match := re.match(rf"({re.escape(part)}\w+)\.\d+\.", f"{name}."))}
    for name in found.unused:
        match = re.match(r"((?:backbone\.)?\w+)\.(\d+)\.", name)
        if match and match.group(1) in stages and not any(one.startswith(match.group(0)[:-1]) for one in parts):
            raise CheckpointError(f"{source}: is of a deeper model: {found}; choose the weights of this depth")
