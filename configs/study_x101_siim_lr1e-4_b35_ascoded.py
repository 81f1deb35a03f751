"""The setting 'SGD 1e-4, cosine lambda' of the older script of the report's code: batches of 35, 56 epochs."""

_base_ = "./study_x101_siim_lr1e-4_b35.py"

train_cfg = dict(max_epochs=56)
param_scheduler = [dict(type="SteppedCosineLR", T_max=56, eta_min_ratio=0.05, step_every=2, by_epoch=True)]
