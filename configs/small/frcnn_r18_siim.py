"""The report's Faster R-CNN experiment sized for two CPU cores: ResNet-18, 256 px, from random weights.

What this file does not name is configs/frcnn_x101_siim.py: losses, assigners, the augmentations and their
probabilities, 50 epochs and the shape of the schedule. The numbers here are chosen by covidmm.
"""

_base_ = "../frcnn_x101_siim.py"

# "nih" is what small/r18_nih.py was published as
pretrained = "none"
pretrained_weights = dict(imagenet="torchvision://resnet18", nih="covidmm://r18_nih")

model = dict(
    backbone=dict(
        _delete_=True,
        type="ResNet",
        depth=18,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=-1,  # nothing is pretrained, so nothing is frozen
        norm_cfg=dict(type="BN", requires_grad=True),
        norm_eval=False,
        style="pytorch",
    ),
    neck=dict(in_channels=[64, 128, 256, 512], out_channels=128),
    rpn_head=dict(in_channels=128, feat_channels=128),
    roi_head=dict(bbox_roi_extractor=dict(out_channels=128), bbox_head=dict(in_channels=128, fc_out_channels=256)),
    train_cfg=dict(rpn_proposal=dict(nms_pre=500, max_per_img=500), rcnn=dict(sampler=dict(num=64))),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=100)),
)

resize = dict(type="Resize", scale=(256, 256), keep_ratio=False)
train_pipeline = [*_base_.load_with_boxes, _base_.crop, resize, *_base_.augment]
test_pipeline = [*_base_.load_with_boxes, resize, _base_.pack]
train_dataloader = dict(batch_size=8, num_workers=1, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=8, num_workers=1, dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(batch_size=8, num_workers=1, dataset=dict(pipeline=test_pipeline))

# From random weights the rate can be ten times the fine-tuning rate, after a warm-up and with clipping.
optim_wrapper = dict(optimizer=dict(lr=0.01), clip_grad=dict(max_norm=10.0))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=60),
    *_base_.param_scheduler,
]
# On so few images single epochs swing; the averaged weights do not.
custom_hooks = [
    *_base_.custom_hooks,
    dict(type="EMAHook", ema_type="ExpMomentumEMA", momentum=0.01, gamma=100, update_buffers=True),
]
