"""The study-level classifier sized for two CPU cores: the backbone of r18_nih.py by name. Numbers chosen here.

Nothing is frozen, unlike configs/study_x101_siim.py: so few images cannot carry a frozen backbone of so few images.
"""

_base_ = [
    "../_base_/models/classifier_r18.py",
    "../_base_/datasets/siim_study.py",
    "../_base_/schedules/classifier_30e.py",
    "../_base_/default_runtime.py",
]

model = dict(num_classes=4, loss=dict(type="CrossEntropyLoss"))

fit = [dict(type="Resize", scale=(100000, 128), keep_ratio=True), dict(type="CenterCrop", crop_size=112)]
train_pipeline = [_base_.load_image, *fit, *_base_.augment, _base_.pack]
test_pipeline = [_base_.load_image, *fit, _base_.pack]
train_dataloader = dict(num_workers=1, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(num_workers=1, dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(num_workers=1, dataset=dict(pipeline=test_pipeline))

default_hooks = dict(checkpoint=dict(save_best="study/mAP"))
