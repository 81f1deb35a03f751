"""The classifier of findings on phantoms, from random weights: FINDINGS_ROOT names them. Phantoms prove nothing clinical.

Optimizer, averaging and the choice of the checkpoint are those of study_r18_phantom.py, for its reasons.
"""

_base_ = "../small/labels_r18_findings.py"

train_dataloader = dict(batch_size=15)
optim_wrapper = dict(optimizer=dict(_delete_=True, type="AdamW", lr=1e-3, weight_decay=0.05))
custom_hooks = [
    *_base_.custom_hooks,
    dict(type="EMAHook", ema_type="ExpMomentumEMA", momentum=0.01, gamma=100, update_buffers=True),
]
train_cfg = dict(val_interval=5)
default_hooks = dict(checkpoint=dict(interval=5, save_best="val_loss", rule="less"))
