"""The small Faster R-CNN on phantoms, 14 epochs: what `make demo` trains. Phantoms prove nothing clinical."""

_base_ = "../small/frcnn_r18_siim.py"

train_cfg = dict(max_epochs=14)
optim_wrapper = dict(optimizer=dict(lr=0.02))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=60),
    dict(type="SteppedCosineLR", T_max=7, eta_min_ratio=0.05, step_every=2, by_epoch=True, begin=0, end=14),
]
