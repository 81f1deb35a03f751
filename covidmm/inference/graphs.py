"""The parts of models that become ONNX graphs: tensors in, tensors out, no decisions in Python between."""

from __future__ import annotations

from typing import Any

import torch
from mmdet.models.detectors import SingleStageDetector, TwoStageDetector
from torch import Tensor, nn
from torchvision.ops import nms, roi_align

from covidmm.errors import ConfigError
from covidmm.models.classifier import RadiographClassifier


class SingleStageGraph(nn.Module):
    """Normalised images (B, 3, H, W) to the raw outputs of a dense head, level by level.

    Decoding and suppression stay outside: the head's own ``predict_by_feat`` does them on every backend.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Every level of the head's first output, then of its second, and so on."""
        outputs = self.model.bbox_head(self.model.extract_feat(images))
        return tuple(level for kind in outputs for level in kind)


class TwoStageGraph(nn.Module):
    """One normalised image (1, 3, H, W) to proposals and the outputs of the box head for them.

    The proposals' suppression and RoIAlign are in the graph. The final decoding and suppression stay outside: the
    box head's own ``predict_by_feat`` does them on every backend.

    Args:
        model: a Faster R-CNN of MMDetection, its proposals suppressed by plain NMS within their level.
        size: height and width of the input, pixels.

    Raises:
        ConfigError: parts that this graph does not cover.
    """

    def __init__(self, model: nn.Module, size: tuple[int, int]) -> None:
        super().__init__()
        extractor, rpn = model.roi_head.bbox_roi_extractor, model.rpn_head
        covered = rpn.use_sigmoid_cls and rpn.test_cfg.nms.type == "nms" and not model.roi_head.with_shared_head
        if not covered or {layer.pool_mode for layer in extractor.roi_layers} != {"avg"}:
            raise ConfigError("export covers two-stage detectors with a sigmoid RPN, plain NMS and average RoIAlign")
        self.model = model
        self.size = size

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Proposals (N, 5) as batch index x1 y1 x2 y2, class logits (N, C + 1), box deltas (N, 4 C or 4)."""
        features = self.model.extract_feat(images)
        rois = self._proposals(features)
        rois, pooled = self._pool(features, rois)
        return (rois, *self.model.roi_head.bbox_head(pooled))

    def _proposals(self, features: tuple[Tensor, ...]) -> Tensor:
        rpn = self.model.rpn_head
        cfg = rpn.test_cfg
        scores_of, deltas_of = rpn(features)
        priors = rpn.prior_generator.grid_priors([one.shape[-2:] for one in scores_of], device="cpu")
        boxes, scores, levels = [], [], []
        for level, (logit, delta, prior) in enumerate(zip(scores_of, deltas_of, priors, strict=True)):
            count = min(cfg.nms_pre, len(prior))  # sizes are fixed: a constant of the graph
            score, index = logit[0].permute(1, 2, 0).reshape(-1).sigmoid().topk(count)
            boxes.append(self._decode(prior[index], delta[0].permute(1, 2, 0).reshape(-1, 4)[index]))
            scores.append(score)
            levels.append(score.new_full((count, 1), float(level)))
        box, score = torch.cat(boxes), torch.cat(scores)
        large = ((box[:, 2:] - box[:, :2]) > cfg.min_bbox_size).all(1)
        # levels far apart: none suppresses another's proposals
        apart = box + torch.cat(levels) * (max(self.size) + 1)
        kept = nms(apart[large], score[large], cfg.nms.iou_threshold)[: cfg.max_per_img]
        box = box[large][kept]
        return torch.cat((torch.zeros_like(box[:, :1]), box), 1)

    def _decode(self, priors: Tensor, deltas: Tensor) -> Tensor:
        # without max_shape: while tracing, the coder would clip by a module that MMDetection 3 no longer has
        boxes = self.model.rpn_head.bbox_coder.decode(priors, deltas)
        height, width = self.size
        return boxes.clamp(min=0).minimum(boxes.new_tensor([width, height, width, height]))

    def _pool(self, features: tuple[Tensor, ...], rois: Tensor) -> tuple[Tensor, Tensor]:
        """Proposals sorted by the level that sees them, and their features, (N, C, s, s)."""
        extractor = self.model.roi_head.bbox_roi_extractor
        level_of = extractor.map_roi_levels(rois, extractor.num_inputs)
        kept, pooled = [], []
        for level, layer in enumerate(extractor.roi_layers):
            mine = rois[level_of == level]
            kept.append(mine)
            pooled.append(
                roi_align(
                    features[level],
                    mine,
                    layer.output_size,
                    layer.spatial_scale,
                    layer.sampling_ratio,
                    layer.aligned,
                )
            )
        return torch.cat(kept), torch.cat(pooled)


class ClassifierGraph(nn.Module):
    """Normalised images (B, 3, H, W) to logits (B, classes)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """As :class:`~covidmm.models.classifier.RadiographClassifier` in mode ``tensor``."""
        return self.model(images)


def graph_of(model: nn.Module, size: tuple[int, int]) -> tuple[str, nn.Module]:
    """The kind of a model, ``single-stage``, ``two-stage`` or ``classifier``, and its graph.

    Raises:
        ConfigError: no kind that can be exported.
    """
    if isinstance(model, RadiographClassifier):
        return "classifier", ClassifierGraph(model)
    if isinstance(model, SingleStageDetector):
        return "single-stage", SingleStageGraph(model)
    if isinstance(model, TwoStageDetector) and hasattr(model.roi_head, "bbox_roi_extractor"):
        return "two-stage", TwoStageGraph(model, size)
    raise ConfigError(f"a {type(model).__name__} cannot be exported")


def input_size(cfg: Any) -> tuple[int, int]:
    """Height and width, pixels, that a config's test pipeline and preprocessor give the largest image.

    Raises:
        ConfigError: the pipeline does not fix a size.
    """
    size = None
    for step in cfg.test_dataloader.dataset.pipeline:
        if step.type == "Resize" and step.get("scale"):
            width, height = step.scale
            size = (max(step.scale),) * 2 if step.get("keep_ratio") else (height, width)
        elif step.type == "Pad" and step.get("size"):
            size = tuple(reversed(step.size))
    if size is None:
        raise ConfigError("the test pipeline fixes no size: it has no Resize with a scale")
    divisor = cfg.model.data_preprocessor.get("pad_size_divisor", 1)
    return tuple(-(-side // divisor) * divisor for side in size)


def stretches_or_pads(cfg: Any) -> bool:
    """Whether a config's test pipeline gives every image the same size, rather than its own within the largest."""
    steps = cfg.test_dataloader.dataset.pipeline
    return any(
        (step.type == "Resize" and not step.get("keep_ratio")) or (step.type == "Pad" and step.get("size"))
        for step in steps
    )
