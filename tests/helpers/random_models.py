"""Untrained models, for tests that do not depend on what they find."""

from __future__ import annotations

from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope

import covidmm.registration  # noqa: F401
from covidmm.engine.config import load_config

ROOT = Path(__file__).parents[2]


def write_ensemble(folder: Path) -> Path:
    """Write two detectors and a study classifier with random weights, and a config that inherits the shipped ensemble.

    Returns:
        The config.
    """
    lines = [f'_base_ = "{ROOT}/configs/small/ensemble_wbf_siim.py"', "max_size = 128", "batch_size = 3"]
    for name, config in (
        ("frcnn", "phantom/frcnn_r18_phantom.py"),
        ("yolo", "phantom/yolov5n_phantom.py"),
        ("study", "phantom/study_r18_phantom.py"),
    ):
        torch.manual_seed(0)
        init_default_scope("mmdet")
        model = MODELS.build(load_config(ROOT / "configs" / config).model)
        model.init_weights()
        torch.save({"state_dict": model.state_dict()}, folder / f"{name}.pth")
        value = f"dict(config='{ROOT}/configs/{config}', checkpoint='{folder}/{name}.pth')"
        lines.append(f"study = {value}" if name == "study" else f"{name} = {value}")
    lines.append("members = dict(frcnn=frcnn, yolo=yolo)")
    (folder / "ensemble.py").write_text("\n".join(lines) + "\n")
    return folder / "ensemble.py"
