"""TOOD with ResNet-18 at 256 px from random weights, on SIIM. Sizes, batch and schedule are chosen here."""

_base_ = ["mmdet::tood/tood_r50_fpn_1x_coco.py", "../_base_/siim_detector.py", "../_base_/from_scratch.py"]

backbone = dict(depth=18, frozen_stages=-1, norm_eval=False, init_cfg=None)
neck = dict(in_channels=[64, 128, 256, 512], out_channels=128)
head = dict(num_classes=1, in_channels=128, feat_channels=128, stacked_convs=2)
model = dict(backbone=backbone, neck=neck, bbox_head=head)

size = dict(scale=(256, 256))
train, test = [[{**t, **size} if "scale" in t else t for t in p] for p in (_base_.train_pipeline, _base_.test_pipeline)]
train_dataloader = dict(batch_size=4, dataset=dict(**_base_.siim_train, pipeline=train), **_base_.siim_loader)
val_dataloader = dict(dataset=dict(**_base_.siim_val, pipeline=test))
test_dataloader = dict(dataset=dict(**_base_.siim_test, pipeline=test))
val_evaluator, test_evaluator = _base_.siim_val_evaluator, _base_.siim_test_evaluator
default_hooks, custom_hooks = _base_.siim_hooks, _base_.siim_checks

train_cfg, param_scheduler = dict(max_epochs=24), _base_.scratch_schedule
optim_wrapper = dict(clip_grad=dict(max_norm=10.0))
