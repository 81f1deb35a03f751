"""The schedule of the small classifiers: 30 epochs from random weights, after a warm-up. Numbers chosen here."""

_base_ = "./frcnn_50e.py"

train_cfg = dict(max_epochs=30)
optim_wrapper = dict(optimizer=dict(lr=0.02, weight_decay=5e-4))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=40),
    dict(type="SteppedCosineLR", eta_min_ratio=0.05, by_epoch=True),
]
