"""A trained model from its config and its checkpoint, ready to predict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from covidmm.engine.config import load_config
from covidmm.models.checkpoints import coverage, read_checkpoint, require_coverage, state_of


def load_trained(config: str | Path, checkpoint: Path) -> tuple[Config, nn.Module, dict[str, Any]]:
    """Build the model of a config with the weights of a checkpoint, in evaluation mode, on the CPU.

    Returns:
        The config, the model, and what the checkpoint's ``meta`` says.

    Raises:
        ConfigError: the config is missing or broken.
        CheckpointError: the checkpoint is missing, unsafe to read, or of another model.
    """
    cfg = load_config(config)
    init_default_scope(cfg.get("default_scope", "mmdet"))
    model = MODELS.build(cfg.model)
    content = read_checkpoint(checkpoint)
    state = state_of(content)
    found = coverage(model.state_dict(), state)
    require_coverage(found, str(checkpoint))
    dropped = {*found.mismatched, *found.unused}
    model.load_state_dict({key: value for key, value in state.items() if key not in dropped}, strict=False)
    return cfg, model.eval(), content.get("meta", {})
