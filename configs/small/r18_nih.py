"""The report's backbone stage sized for two CPU cores: ResNet-18, 112 px, from random weights. Numbers chosen here."""

_base_ = [
    "../_base_/models/classifier_r18.py",
    "../_base_/datasets/nih_findings.py",
    "../_base_/schedules/classifier_30e.py",
    "../_base_/default_runtime.py",
]

pretrained = "none"
model = dict(num_classes=15, multi_label=True, loss=dict(type="CrossEntropyLoss", use_sigmoid=True))

fit = [dict(type="Resize", scale=(100000, 128), keep_ratio=True), dict(type="CenterCrop", crop_size=112)]
train_pipeline = [_base_.load_image, *fit, *_base_.augment, _base_.pack]
test_pipeline = [_base_.load_image, *fit, _base_.pack]
train_dataloader = dict(num_workers=1, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(num_workers=1, dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(num_workers=1, dataset=dict(pipeline=test_pipeline))

default_hooks = dict(checkpoint=dict(save_best="findings/auroc"))
