"""DINO with ResNet-18 at 256 px from random weights, on SIIM. Sizes, batch and schedule are chosen here."""

_base_ = ["mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py", "../_base_/siim_detector.py", "../_base_/from_scratch.py"]

norm = dict(requires_grad=True)
backbone = dict(depth=18, frozen_stages=-1, norm_eval=False, norm_cfg=norm, init_cfg=None)
layers = dict(encoder=dict(num_layers=2), decoder=dict(num_layers=2))
neck = dict(in_channels=[128, 256, 512])
# no more boxes than queries, of which a radiograph needs few
few = dict(num_queries=100, test_cfg=dict(max_per_img=100))
model = dict(backbone=backbone, neck=neck, bbox_head=dict(num_classes=1), **few, **layers)

resize = dict(type="Resize", scale=(256, 256), keep_ratio=False)
load, flip, pack = _base_.train_pipeline[:2], _base_.train_pipeline[2], _base_.train_pipeline[-1]
train, test = [*load, flip, resize, pack], [{**t, **resize} if "scale" in t else t for t in _base_.test_pipeline]
train_dataloader = dict(batch_size=4, dataset=dict(**_base_.siim_train, pipeline=train), **_base_.siim_loader)
val_dataloader = dict(dataset=dict(**_base_.siim_val, pipeline=test))
test_dataloader = dict(dataset=dict(**_base_.siim_test, pipeline=test))
val_evaluator, test_evaluator = _base_.siim_val_evaluator, _base_.siim_test_evaluator
default_hooks, custom_hooks = _base_.siim_hooks, _base_.siim_checks

train_cfg, param_scheduler = dict(max_epochs=24), _base_.scratch_schedule
# nothing is pretrained, so the backbone learns as fast as the rest
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=1.0))))
