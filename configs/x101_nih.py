"""ResNeXt-101 32x8d on NIH ChestX-ray14: the backbone that the report's other models start from.

Numbers are those of the report, section 3.1, unless marked otherwise.
"""

_base_ = [
    "_base_/models/classifier_x101.py",
    "_base_/datasets/nih_findings.py",
    "_base_/schedules/frcnn_50e.py",
    "_base_/default_runtime.py",
]

pretrained = "imagenet"
model = dict(num_classes=15, multi_label=True, loss=dict(type="CrossEntropyLoss", use_sigmoid=True))

train_cfg = dict(max_epochs=35)
default_hooks = dict(checkpoint=dict(save_best="findings/auroc"))
