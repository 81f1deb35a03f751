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

train_cfg = dict(max_epochs=58)  # 29 whole steps of the schedule; the report has 59
optim_wrapper = dict(optimizer=dict(lr=5e-4))
param_scheduler = [
    dict(type="SteppedCosineLR", T_max=29, eta_min_ratio=0.05, step_every=2, by_epoch=True, begin=0, end=58)
]
default_hooks = dict(checkpoint=dict(save_best="study/mAP"))
