"""Experiments of a dozen lines: a config of MMDetection, configs/_base_/siim_detector.py, and what joins them."""

from __future__ import annotations

from pathlib import Path

BASE = Path(__file__).parents[2] / "configs/_base_/siim_detector.py"
#: Lines that an experiment may have.
LINES = 15

_RANDOM = "backbone=dict(init_cfg=None, frozen_stages=-1, norm_eval=False{})"
_ONE_HEAD = "model = dict({}, bbox_head=dict(num_classes=1))"
_LIST_OF_HEADS = (
    "heads = [{{**head, 'num_classes': 1}} for head in _base_.model.roi_head.bbox_head]\n"
    "model = dict({}, roi_head=dict(bbox_head=heads))"
)
_RESNET = _RANDOM.format("")
_DETR = _RANDOM.format(", norm_cfg=dict(requires_grad=True)")
_WITHOUT_FILE = "backbone=dict(init_cfg=None)"

#: Config of MMDetection -> the lines on its model, how often its data set is wrapped, whether its own hooks stay.
FAMILIES = {
    "rtmdet/rtmdet_tiny_8xb32-300e_coco": (_ONE_HEAD.format(_WITHOUT_FILE), 0, True),
    "cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco": (_LIST_OF_HEADS.format(_RESNET), 0, False),
    "dino/dino-4scale_r50_8xb2-12e_coco": (_ONE_HEAD.format(_DETR), 0, False),
    "tood/tood_r50_fpn_1x_coco": (_ONE_HEAD.format(_RESNET), 0, False),
    "fcos/fcos_r50-caffe_fpn_gn-head_1x_coco": (_ONE_HEAD.format(_DETR), 0, False),
    "yolox/yolox_s_8xb8-300e_coco": ("model = dict(bbox_head=dict(num_classes=1))", 1, True),
    "yolo/yolov3_d53_8xb8-ms-416-273e_coco": (_ONE_HEAD.format(_WITHOUT_FILE), 0, False),
    "centernet/centernet_r18_8xb16-crop512-140e_coco": (_ONE_HEAD.format(_WITHOUT_FILE), 1, False),
    "deformable_detr/deformable-detr_r50_16xb2-50e_coco": (_ONE_HEAD.format(_DETR), 0, False),
    "sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco": (_LIST_OF_HEADS.format(_RESNET), 0, False),
    # bases of large-scale jitter: wrapped data, mixed precision, batch norms that learn
    "cascade_rcnn/cascade-rcnn_r18_fpn_8xb8-amp-lsj-200e_coco": (_LIST_OF_HEADS.format(_WITHOUT_FILE), 1, False),
}


def short_config(name: str) -> str:
    """The text of an experiment on SIIM whose base is a config of MMDetection."""
    model, wraps, own_hooks = FAMILIES[name]
    data = "dict(dataset=" * wraps + "_base_.siim_train" + ")" * wraps
    hooks = "[*_base_.custom_hooks, *_base_.siim_checks]" if own_hooks else "_base_.siim_checks"
    return f"""_base_ = ["mmdet::{name}.py", "{BASE}"]

{model}
train_dataloader = dict(batch_size=2, dataset={data}, **_base_.siim_loader)
val_dataloader = dict(dataset=_base_.siim_val)
test_dataloader = dict(dataset=_base_.siim_test)
val_evaluator, test_evaluator = _base_.siim_val_evaluator, _base_.siim_test_evaluator
default_hooks, custom_hooks = _base_.siim_hooks, {hooks}
"""
