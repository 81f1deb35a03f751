"""A trained network as a study classifier."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from numpy.typing import NDArray
from torch import Tensor

from covidmm.engine.checkpointing import load_trained, trained_file
from covidmm.engine.config import load_config
from covidmm.engine.data_classes import classes_of, negative_class
from covidmm.errors import CheckpointError, ConfigError
from covidmm.findings import Study
from covidmm.models.checkpoints import classes_in, temperature_in


class NetworkClassifier:
    """The model of ``configs/study_x101_siim.py``, or any :class:`~covidmm.models.classifier.RadiographClassifier`.

    Its classes are those that it was trained on, by its checkpoint; of one that does not say, those of its config. Each
    radiograph goes through the config's test pipeline; probabilities, at the temperature that validation fitted, are
    joined over the study. A study without a readable radiograph gets equal probabilities, or no label, and a warning.

    Args:
        config: the config that it was trained by.
        checkpoint: its checkpoint.
        aggregate: ``mean`` or ``max`` over the radiographs of a study, rescaled to a sum of 1 unless several labels can
            hold.

    Raises:
        ConfigError: the config is of no classifier, or nothing says what its classes are.
        CheckpointError: the checkpoint cannot be read or does not fit the model.
    """

    uses_detections = False

    def __init__(self, config: str, checkpoint: str, aggregate: str = "mean") -> None:
        if aggregate not in ("mean", "max"):
            raise ConfigError(f"aggregate is '{aggregate}', it can be 'mean' or 'max'")
        self.join = {"mean": np.mean, "max": np.max}[aggregate]
        cfg = load_config(config)
        if cfg.model.get("num_classes") is None:
            raise ConfigError(f"{config}: its model is no classifier, it has no num_classes")
        path = trained_file(checkpoint)
        self.model, meta = load_trained(cfg, path)
        self.classes = _classes(cfg, path, meta)
        self.multi_label = bool(cfg.model.get("multi_label"))
        self.negative = negative_class(cfg, self.classes)
        self.temperature = temperature_in(meta.get("val_metrics", {})) or 1.0
        self.pipeline = Compose(cfg.test_dataloader.dataset.pipeline[1:])

    def classify(self, study: Study) -> NDArray[np.float32]:
        """(C,) probabilities of one study."""
        if not study.radiographs:
            count = len(self.classes)
            told, value = ("no label holds", 0) if self.multi_label else (f"all classes are given 1/{count}", 1 / count)
            warnings.warn(f"study {study.identifier}: no readable radiograph, {told}", stacklevel=2)
            return np.full(count, value, np.float32)
        inputs = [self.inputs_of(radiograph.pixels) for radiograph in study.radiographs]
        with torch.inference_mode():
            logits = self.model(self.model.data_preprocessor({"inputs": inputs})["inputs"]) / self.temperature
        if self.multi_label:
            return self.join(logits.sigmoid().numpy(), axis=0).astype(np.float32)
        scores = self.join(logits.softmax(1).numpy(), axis=0)
        return (scores / scores.sum()).astype(np.float32)

    def inputs_of(self, pixels: NDArray[np.uint8]) -> Tensor:
        """(3, h, w) uint8: what the network sees of (H, W) grey values, not yet normalised."""
        image = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
        shape = image.shape[:2]
        sample = {"img": image, "img_shape": shape, "ori_shape": shape, "gt_label": np.zeros(len(self.classes))}
        return self.pipeline(sample)["inputs"]


def _classes(cfg: Config, path: Path, meta: dict[str, Any]) -> tuple[str, ...]:
    """What the outputs of a loaded model stand for."""
    found = classes_in({"meta": meta}) or classes_of(cfg)
    count = cfg.model.num_classes
    if not found:
        raise ConfigError(f"{cfg.filename}: neither it nor {path} says which classes it has")
    if len(found) != count:
        raise CheckpointError(
            f"{path}: was trained on {', '.join(found)}; the model of {cfg.filename} has {count} classes"
        )
    return found
