"""The setting 'SGD 2e-4, cosine to 25 %' of the report, section 7: 35 epochs."""

_base_ = "./study_x101_siim_lr1e-4.py"

optim_wrapper = dict(optimizer=dict(lr=2e-4))
param_scheduler = [dict(type="SteppedCosineLR", eta_min_ratio=0.25, step_every=2, by_epoch=True)]
