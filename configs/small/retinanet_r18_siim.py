"""RetinaNet as MMDetection ships it, on SIIM at 256 px (chosen here): a third member for an ensemble."""

_base_ = ["mmdet::retinanet/retinanet_r18_fpn_1x_coco.py", "../_base_/siim_detector.py"]

model = dict(backbone=dict(init_cfg=None, frozen_stages=-1, norm_eval=False), bbox_head=dict(num_classes=1))

size = dict(scale=(256, 256))
train, test = [[{**t, **size} if "scale" in t else t for t in p] for p in (_base_.train_pipeline, _base_.test_pipeline)]
train_dataloader = dict(batch_size=4, dataset=dict(**_base_.siim_train, pipeline=train), **_base_.siim_loader)
val_dataloader = dict(dataset=dict(**_base_.siim_val, pipeline=test))
test_dataloader = dict(dataset=dict(**_base_.siim_test, pipeline=test))
val_evaluator, test_evaluator = _base_.siim_val_evaluator, _base_.siim_test_evaluator
default_hooks, custom_hooks = _base_.siim_hooks, _base_.siim_checks
