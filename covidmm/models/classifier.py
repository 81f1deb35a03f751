"""One classifier for both tasks: the findings of a radiograph, and the appearance of its study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmdet.registry import MODELS
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import Tensor, nn


@MODELS.register_module()
class RadiographClassifier(BaseModel):
    """Backbone, global average pooling, a hidden layer with ReLU and dropout, and one logit per class.

    Args:
        backbone: any MMDetection backbone; its last stage is pooled. So that a detector can start from the same
            weights, under the same names.
        num_classes: classes.
        in_channels: channels of that stage.
        hidden_channels: width of the hidden layer; None for none.
        dropout: share of hidden units dropped in training.
        multi_label: any number of classes per image, scored by sigmoid, instead of exactly one, by softmax.
        loss: a loss of MMDetection. ``CrossEntropyLoss``, with ``use_sigmoid=True`` for ``multi_label``.
        data_preprocessor: an ``ImgDataPreprocessor``.
    """

    def __init__(
        self,
        backbone: dict,
        num_classes: int,
        in_channels: int,
        loss: dict,
        hidden_channels: int | None = 1024,
        dropout: float = 0.5,
        multi_label: bool = False,
        data_preprocessor: dict | None = None,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.num_classes = num_classes
        self.multi_label = multi_label
        # channels last, here and in forward: a tenth faster on CPUs, and what tensor cores want
        self.backbone = MODELS.build(backbone).to(memory_format=torch.channels_last)
        hidden = []
        if hidden_channels:
            hidden = [nn.Linear(in_channels, hidden_channels), nn.ReLU(), nn.Dropout(dropout)]
        self.head = nn.Sequential(*hidden, nn.Linear(hidden_channels or in_channels, num_classes))
        self.loss = MODELS.build(loss)

    def init_weights(self) -> None:
        """Xavier-uniform weights and zero biases in the head (report, sections 3.1 and 7)."""
        for layer in self.head:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        super().init_weights()

    def forward(
        self, inputs: Tensor, data_samples: Sequence[BaseDataElement] | None = None, mode: str = "tensor"
    ) -> Any:
        """(B, 3, H, W) to logits (B, classes), to losses, or to samples with ``scores`` (classes,), by ``mode``.

        Args:
            inputs: normalised images.
            data_samples: per image ``target``: float32 array (classes,) of 0 and 1.
            mode: ``tensor``, ``loss`` or ``predict``.
        """
        images = inputs.contiguous(memory_format=torch.channels_last)
        logits = self.head(self.backbone(images)[-1].mean((2, 3)))
        if mode == "tensor":
            return logits
        if mode == "loss":
            target = torch.from_numpy(np.stack([sample.target for sample in data_samples])).to(logits.device)
            return {"loss": self.loss(logits.float(), target if self.multi_label else target.argmax(1))}
        for sample, logit, score in zip(data_samples, logits.float(), self.scores(logits), strict=True):
            sample.logits, sample.scores = logit, score
        return list(data_samples)

    def scores(self, logits: Tensor) -> Tensor:
        """(B, classes) logits to float32 probabilities, each on its own or of sum 1 by ``multi_label``."""
        return logits.float().sigmoid() if self.multi_label else logits.float().softmax(1)
