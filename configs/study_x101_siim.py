"""The study-level classifier: the NIH backbone, frozen, and a new head (report, section 7)."""

_base_ = [
    "_base_/models/classifier_x101.py",
    "_base_/datasets/siim_study.py",
    "_base_/schedules/frcnn_50e.py",
    "_base_/default_runtime.py",
]

model = dict(
    num_classes=4,
    loss=dict(type="CrossEntropyLoss"),
    # batch-norm statistics too, which drifted in the report's code
    backbone=dict(frozen_stages=4, norm_eval=True),
)

train_cfg = dict(max_epochs=59)
optim_wrapper = dict(optimizer=dict(lr=5e-4))
default_hooks = dict(checkpoint=dict(save_best="study/mAP"))
