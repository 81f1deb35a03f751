"""RTMDet-tiny at 256 px from random weights, on SIIM. Sizes, batch and schedule are chosen here."""

_base_ = ["mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py", "../_base_/siim_detector.py", "../_base_/from_scratch.py"]

model = dict(backbone=dict(init_cfg=None), bbox_head=dict(num_classes=1))

sizes = dict(scale=(256, 256), img_scale=(256, 256), crop_size=(256, 256), size=(256, 256))
train, test = [
    [{key: sizes.get(key, value) for key, value in t.items()} for t in p]
    for p in (_base_.train_pipeline_stage2, _base_.test_pipeline)
]
train_dataloader = dict(batch_size=4, dataset=dict(**_base_.siim_train, pipeline=train), **_base_.siim_loader)
val_dataloader = dict(dataset=dict(**_base_.siim_val, pipeline=test))
test_dataloader = dict(dataset=dict(**_base_.siim_test, pipeline=test))
val_evaluator, test_evaluator = _base_.siim_val_evaluator, _base_.siim_test_evaluator
default_hooks, custom_hooks = _base_.siim_hooks, _base_.siim_checks

train_cfg, param_scheduler = dict(max_epochs=24, val_interval=1, dynamic_intervals=None), _base_.scratch_schedule
optim_wrapper = dict(optimizer=dict(lr=0.001), clip_grad=dict(max_norm=10.0))
