"""The anchor-based head of YOLOv5: one convolution per level, its losses and its predictions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.models.losses.iou_loss import CIoULoss, DIoULoss, GIoULoss, ciou_loss, diou_loss, giou_loss
from mmdet.models.utils import filter_scores_and_topk
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.structures.bbox import bbox_overlaps, get_box_tensor
from mmengine.structures import InstanceData
from torch import Tensor, nn

from .assigner import Matches
from .backbone import scaled_channels

#: Weight of each level in the objectness loss, finest first, by the number of levels.
LEVEL_BALANCE = {3: (4.0, 1.0, 0.4), 4: (4.0, 1.0, 0.25, 0.06)}

#: Losses that are 1 minus a measure of overlap, and their functions; objectness learns the IoU with any other.
OVERLAP_LOSSES = {GIoULoss: giou_loss, DIoULoss: diou_loss, CIoULoss: ciou_loss}


@MODELS.register_module()
class YOLOv5Head(BaseDenseHead):
    """Per level, anchor and cell: four box values, an objectness and ``num_classes`` class logits.

    The loss is that of the report, section 5, equation (2): the box loss over matched anchors, objectness over all of
    them, and class over matched ones, each averaged per level and summed over levels. Their gains are the
    ``loss_weight`` of the three losses. The objectness target is the overlap of the predicted box with its truth,
    detached and at least 0, by the measure of the box loss, as published: GIoU with ``GIoULoss``; the best, where
    several boxes match one anchor.

    Args:
        num_classes: classes.
        in_channels: channels of the levels at ``widen_factor`` 1, finest first.
        widen_factor: as for the backbone.
        prior_generator: a ``YOLOAnchorGenerator``: anchors and strides of every level.
        bbox_coder: a ``YOLOv5BBoxCoder``.
        assigner: an ``AnchorRatioAssigner``.
        loss_bbox: ``GIoULoss``, ``CIoULoss``, ``DIoULoss`` or ``IoULoss`` of MMDetection.
        loss_obj: binary cross entropy with logits.
        loss_cls: binary cross entropy with logits.
        level_balance: weight of each level's objectness; YOLOv5's by default.
        loss_scale: factor on every loss. YOLOv5 sums the gradients of its nominal batch of 64 images where
            MMEngine averages them; 64 makes both the same.

    Raises:
        ValueError: levels, channels and anchors disagree in number.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: Sequence[int],
        prior_generator: dict,
        bbox_coder: dict,
        assigner: dict,
        loss_bbox: dict,
        loss_obj: dict,
        loss_cls: dict,
        widen_factor: float = 1.0,
        level_balance: Sequence[float] | None = None,
        loss_scale: float = 1.0,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.num_classes = num_classes
        self.prior_generator = TASK_UTILS.build(prior_generator)
        self.bbox_coder = TASK_UTILS.build(bbox_coder)
        self.assigner = TASK_UTILS.build(assigner)
        self.loss_bbox = MODELS.build(loss_bbox)
        self.loss_obj = MODELS.build(loss_obj)
        self.loss_cls = MODELS.build(loss_cls)
        self.loss_scale = loss_scale
        self.test_cfg = test_cfg
        levels = len(in_channels)
        balance = level_balance or LEVEL_BALANCE.get(levels, ())
        if not levels == self.prior_generator.num_levels == len(balance):
            raise ValueError(
                f"{levels} levels of features, {self.prior_generator.num_levels} of anchors and "
                f"{len(balance)} of level_balance: they must be equal"
            )
        self.level_balance = tuple(balance)
        self.num_outputs = 5 + num_classes
        self.convs_pred = nn.ModuleList(
            nn.Conv2d(scaled_channels(channels, widen_factor), count * self.num_outputs, 1)
            for channels, count in zip(in_channels, self.prior_generator.num_base_priors, strict=True)
        )

    def init_weights(self) -> None:
        """Start with the objectness and class frequencies that YOLOv5 presumes.

        Eight objects on an image of 640 px, and of the classes one in ``num_classes`` at 0.6.
        """
        super().init_weights()
        for conv, (stride, _) in zip(self.convs_pred, self.prior_generator.strides, strict=True):
            bias = conv.bias.detach().view(-1, self.num_outputs)
            bias[:, 4] = math.log(8 / (640 / stride) ** 2)
            bias[:, 5:] = math.log(0.6 / (self.num_classes - 0.99999))

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor]]:
        """Raw outputs, (B, anchors * (5 + classes), H, W) per level, anchor-major."""
        return ([conv(feature) for conv, feature in zip(self.convs_pred, features, strict=True)],)

    def matched_share(self, boxes: Tensor) -> float:
        """Best possible recall: the share of boxes (N, 4) for which any anchor answers."""
        anchors = torch.cat([self._anchors(level, boxes) for level in range(self.prior_generator.num_levels)])
        return float(self.assigner.shapes_match(boxes, anchors).any(1).float().mean())

    def loss_by_feat(
        self,
        outputs: list[Tensor],
        batch_gt_instances: list[InstanceData],
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: list[InstanceData] | None = None,
    ) -> dict[str, Tensor]:
        """Losses of a batch: ``loss_bbox``, ``loss_obj`` and ``loss_cls``, scalars.

        Args:
            outputs: as :meth:`forward` returns them.
            batch_gt_instances: per image ``bboxes`` (N, 4) in pixels and ``labels`` (N,).
        """
        with torch.autocast(outputs[0].device.type, enabled=False):
            boxes, labels, images = _flatten(batch_gt_instances, outputs[0])
            per_level = [
                self._level_loss(level, output.float(), boxes, labels, images) for level, output in enumerate(outputs)
            ]
        box, obj, cls = (sum(losses) * self.loss_scale for losses in zip(*per_level, strict=True))
        return {"loss_bbox": box, "loss_obj": obj, "loss_cls": cls}

    def _level_loss(
        self, level: int, output: Tensor, boxes: Tensor, labels: Tensor, images: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        batch, _, rows, columns = output.shape
        # (B, A, H, W, 5 + classes)
        output = output.view(batch, -1, self.num_outputs, rows, columns).permute(0, 1, 3, 4, 2)
        anchors = self._anchors(level, output)
        stride = self.prior_generator.strides[level]
        found = self.assigner.assign(boxes, images, anchors, stride, (rows, columns))
        matched = output[found.image, found.anchor, found.row, found.column]
        target = torch.zeros(output.shape[:-1], device=output.device)
        loss_box = loss_cls = matched.sum() * 0
        if len(matched):
            predicted = self.bbox_coder.decode(
                _priors(found, anchors, stride), matched[:, :4], output.new_tensor(stride)
            )
            truth = boxes[found.box]
            loss_box = self.loss_bbox(predicted, truth)
            classes = nn.functional.one_hot(labels[found.box], self.num_classes).float()
            loss_cls = self.loss_cls(matched[:, 5:], classes)
            overlap = self._overlap(predicted.detach(), truth).clamp(0)
            flat = ((found.image * len(anchors) + found.anchor) * rows + found.row) * columns + found.column
            target.view(-1).scatter_reduce_(0, flat, overlap, "amax")
        # one column, because the loss reads (N, classes)
        loss_obj = self.loss_obj(output[..., 4].reshape(-1, 1), target.view(-1, 1)) * self.level_balance[level]
        return loss_box, loss_obj, loss_cls

    def _overlap(self, boxes: Tensor, truth: Tensor) -> Tensor:
        """The overlap (N,) of boxes (N, 4) with their truths (N, 4) that the box loss measures, at most 1."""
        for loss, one_minus_overlap in OVERLAP_LOSSES.items():
            if isinstance(self.loss_bbox, loss):
                return 1 - one_minus_overlap(boxes, truth, reduction="none", eps=self.loss_bbox.eps)
        return bbox_overlaps(boxes, truth, is_aligned=True)

    def predict_by_feat(
        self,
        outputs: list[Tensor],
        batch_img_metas: list[dict],
        cfg: Any = None,
        rescale: bool = False,
        with_nms: bool = True,
    ) -> list[InstanceData]:
        """Detections per image: ``bboxes`` (N, 4), ``scores`` (N,) objectness times class, ``labels`` (N,).

        Args:
            outputs: as :meth:`forward` returns them.
            cfg: ``score_thr``, ``nms_pre``, ``nms``, ``max_per_img``; ``test_cfg`` by default.
            rescale: boxes in pixels of the original image instead of the network's input.
        """
        cfg = self.test_cfg if cfg is None else cfg
        found = []
        for meta, boxes, scores in zip(batch_img_metas, *self.decode(outputs), strict=True):
            kept_scores, labels, kept, _ = filter_scores_and_topk(scores, cfg.score_thr, cfg.nms_pre)
            height, width = _size_without_padding(meta)
            kept_boxes = boxes[kept].minimum(boxes.new_tensor([width, height, width, height])).clamp(min=0)
            result = InstanceData(bboxes=kept_boxes, scores=kept_scores, labels=labels)
            # what lies in the padding must not take part in the suppression
            result = result[~(kept_boxes[:, 2:] <= kept_boxes[:, :2]).any(1)]
            found.append(self._bbox_post_process(result, cfg, rescale, with_nms, meta))
        return found

    def decode(self, outputs: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Boxes (B, P, 4) x1 y1 x2 y2 in pixels and scores (B, P, classes) of all P anchors, before NMS.

        Anchors are in the order of the prior generator: level, row, column, anchor.
        """
        sizes = [output.shape[-2:] for output in outputs]
        priors = self.prior_generator.grid_priors(sizes, dtype=torch.float32, device=outputs[0].device)
        boxes, scores = [], []
        for output, prior, stride in zip(outputs, priors, self.prior_generator.strides, strict=True):
            flat = output.float().permute(0, 2, 3, 1).reshape(len(output), -1, self.num_outputs)
            boxes.append(self.bbox_coder.decode(prior, flat[..., :4], flat.new_tensor(stride)))
            scores.append(flat[..., 4:5].sigmoid() * flat[..., 5:].sigmoid())
        return torch.cat(boxes, 1), torch.cat(scores, 1)

    def _anchors(self, level: int, like: Tensor) -> Tensor:
        return like.new_tensor(self.prior_generator.base_sizes[level])


def _size_without_padding(meta: dict) -> tuple[float, float]:
    """Height and width of the image in the network's input; ``img_shape`` counts the padding of a letterbox.

    That lies to the right and below, as MMDetection's ``Pad`` puts it.
    """
    (height, width), (across, down) = meta["ori_shape"][:2], meta.get("scale_factor", (1, 1))[:2]
    return min(meta["img_shape"][0], height * down), min(meta["img_shape"][1], width * across)


def _priors(found: Matches, anchors: Tensor, stride: tuple[int, int]) -> Tensor:
    """The matched anchors as boxes (M, 4) around the middle of their cells."""
    centres = (torch.stack((found.column, found.row), 1) + 0.5) * anchors.new_tensor(stride)
    half = anchors[found.anchor] / 2
    return torch.cat((centres - half, centres + half), 1)


def _flatten(instances: list[InstanceData], like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes (N, 4), labels (N,) and image indices (N,) of a whole batch."""
    boxes = torch.cat([get_box_tensor(one.bboxes) for one in instances]).to(like.device, torch.float32)
    labels = torch.cat([one.labels for one in instances])
    counts = torch.tensor([len(one.labels) for one in instances], device=like.device)
    return boxes, labels, torch.repeat_interleave(torch.arange(len(instances), device=like.device), counts)
