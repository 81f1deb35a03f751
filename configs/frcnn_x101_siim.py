"""Faster R-CNN, ResNeXt-101 32x8d pretrained on NIH ChestX-ray14, fine-tuned on SIIM: the report's detector."""

_base_ = [
    "_base_/models/frcnn_x101_fpn.py",
    "_base_/datasets/siim_detection.py",
    "_base_/schedules/frcnn_50e.py",
    "_base_/default_runtime.py",
]
