"""The report's YOLO experiment sized for two CPU cores: YOLOv5-n, 256 px, from random weights.

What this file does not name is configs/yolov5l_siim.py: losses, assigner and augmentations. The numbers here are
chosen by covidmm.
"""

_base_ = "../yolov5l_siim.py"

deepen_factor, widen_factor, size = 0.33, 0.25, 256

model = dict(
    data_preprocessor=dict(batch_augments=None),
    backbone=dict(deepen_factor=deepen_factor, widen_factor=widen_factor),
    neck=dict(deepen_factor=deepen_factor, widen_factor=widen_factor),
    bbox_head=dict(widen_factor=widen_factor, loss_scale=32.0),
    init_cfg=None,
)

mosaic = [
    dict(type="Mosaic", img_scale=(size, size), pad_val=114.0, prob=1.0),
    dict(**_base_.affine, border=(-size // 2, -size // 2)),
]
train_pipeline = [*mosaic, dict(**_base_.mixup, pre_transform=mosaic), *_base_.augment]
test_pipeline = [
    *_base_.load_with_boxes,
    dict(type="Resize", scale=(size, size), keep_ratio=True),
    dict(type="Pad", size=(size, size), pad_val=dict(img=(114, 114, 114))),
    _base_.pack,
]
scales = [dict(type="Resize", scale=(side, side), keep_ratio=True) for side in (size, size * 5 // 6, size * 2 // 3)]
tta_pipeline = [dict(type="LoadImageFromFile"), dict(type="TestTimeAug", transforms=[scales, *_base_.tta_mirrored])]

train_dataloader = dict(batch_size=4, num_workers=1, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=8, num_workers=1, dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(batch_size=8, num_workers=1, dataset=dict(pipeline=test_pipeline))

warmup_iterations = 100
train_cfg = dict(max_epochs=50)
# no accumulation and half the nominal batch: so few images give few enough steps
optim_wrapper = dict(accumulative_counts=1, clip_grad=dict(max_norm=10.0))
warmup = [
    dict(type="WarmupLR", start_factor=0.001, group_start_factors=dict(bias=10.0), end=warmup_iterations),
    dict(type="LinearMomentum", start_factor=0.8 / 0.937, by_epoch=False, begin=0, end=warmup_iterations),
]
param_scheduler = [
    dict(type="SteppedCosineLR", eta_min_ratio=0.05, by_epoch=True),
    *warmup,
]
custom_hooks = [
    *_base_.custom_hooks[:-1],  # without the last, the average for 21 batches to a step
    dict(type="EMAHook", ema_type="ExpMomentumEMA", momentum=0.01, gamma=100, update_buffers=True),
]
