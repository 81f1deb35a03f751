"""A trained model from its config and its checkpoint, ready to predict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from covidmm.models.checkpoints import coverage, read_checkpoint, require_coverage, state_of


def load_trained(cfg: Config, checkpoint: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Build the model of a config with the weights of a checkpoint, in evaluation mode, on the CPU.

    Returns:
        The model, and what the checkpoint's ``meta`` says.

    Raises:
        CheckpointError: the checkpoint is missing, unsafe to read, or of another model.
    """
    init_default_scope(cfg.get("default_scope", "mmdet"))
    model = MODELS.build(cfg.model)
    content = read_checkpoint(checkpoint)
    state = state_of(content)
    require_coverage(coverage(model.state_dict(), state), str(checkpoint), whole=True)
    model.load_state_dict(state, strict=False)
    return model.eval(), content.get("meta", {})
