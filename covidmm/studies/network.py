"""A trained network as a study classifier."""

from __future__ import annotations

import warnings

import cv2
import numpy as np
import torch
from mmengine.dataset import Compose
from numpy.typing import NDArray
from torch import Tensor

from covidmm.engine.checkpointing import load_trained, trained_file
from covidmm.engine.config import load_config
from covidmm.errors import ConfigError
from covidmm.findings import STUDY_CLASSES, Study


class NetworkClassifier:
    """The model of ``configs/study_x101_siim.py``, or any :class:`~covidmm.models.classifier.RadiographClassifier`.

    Each radiograph goes through the config's test pipeline; probabilities, at the temperature that validation
    fitted, are joined over the study. A study without a readable radiograph gets equal probabilities, and a warning.

    Args:
        config: the config that it was trained by.
        checkpoint: its checkpoint.
        aggregate: ``mean`` or ``max`` over the radiographs of a study, rescaled to a sum of 1.

    Raises:
        ConfigError: the config is of no single-label classifier of the four study classes.
        CheckpointError: the checkpoint cannot be read or does not fit the model.
    """

    uses_detections = False

    def __init__(self, config: str, checkpoint: str, aggregate: str = "mean") -> None:
        if aggregate not in ("mean", "max"):
            raise ConfigError(f"aggregate is '{aggregate}', it can be 'mean' or 'max'")
        self.join = {"mean": np.mean, "max": np.max}[aggregate]
        cfg = load_config(config)
        if cfg.model.get("num_classes") != len(STUDY_CLASSES) or cfg.model.get("multi_label"):
            raise ConfigError(f"{config}: not a classifier of the classes {', '.join(STUDY_CLASSES)}")
        self.model, meta = load_trained(cfg, trained_file(checkpoint))
        self.temperature = meta.get("val_metrics", {}).get("study/temperature", 1.0)
        self.pipeline = Compose(cfg.test_dataloader.dataset.pipeline[1:])

    def classify(self, study: Study) -> NDArray[np.float32]:
        """(4,) probabilities of one study."""
        if not study.radiographs:
            warnings.warn(f"study {study.identifier}: no readable radiograph, all classes are given 1/4", stacklevel=2)
            return np.full(len(STUDY_CLASSES), 1 / len(STUDY_CLASSES), np.float32)
        inputs = [self.inputs_of(radiograph.pixels) for radiograph in study.radiographs]
        with torch.inference_mode():
            logits = self.model(self.model.data_preprocessor({"inputs": inputs})["inputs"])
        scores = self.join((logits / self.temperature).softmax(1).numpy(), axis=0)
        return (scores / scores.sum()).astype(np.float32)

    def inputs_of(self, pixels: NDArray[np.uint8]) -> Tensor:
        """(3, h, w) uint8: what the network sees of (H, W) grey values, not yet normalised."""
        image = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
        shape = image.shape[:2]
        sample = {"img": image, "img_shape": shape, "ori_shape": shape, "gt_label": np.zeros(len(STUDY_CLASSES))}
        return self.pipeline(sample)["inputs"]
