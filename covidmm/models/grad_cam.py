"""Grad-CAM: which parts of a radiograph a classifier's score came from."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from covidmm.models.classifier import RadiographClassifier


class GradCam:
    """Grad-CAM (Selvaraju et al., 2017) by Captum, on the last stage of a classifier's backbone.

    Args:
        model: in evaluation mode; its parameters are made to ask for gradients.
        temperature: divides the logits before they become scores.
    """

    def __init__(self, model: RadiographClassifier, temperature: float = 1.0) -> None:
        from captum.attr import LayerGradCam  # slow to import, and no training needs it

        model.requires_grad_(True)
        self.model = model
        self.temperature = temperature
        self.explain: Any = LayerGradCam(model, getattr(model.backbone, model.backbone.res_layers[-1]))

    def __call__(self, inputs: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Scores of one image, and the part of each cell in its likeliest class.

        Args:
            inputs: (3, H, W) as the test pipeline packs it, not yet normalised.

        Returns:
            (classes,) scores, and (h, w) of 0 and more; all 0 where no cell speaks for the class.
        """
        images = self.model.data_preprocessor({"inputs": [inputs]})["inputs"]
        with torch.no_grad():
            scores = self.model.scores(self.model(images) / self.temperature)[0]
        heat = self.explain.attribute(images, int(scores.argmax()), relu_attributions=True)[0, 0]
        return scores.numpy(), heat.detach().numpy()
