"""The setting 'SGD 1e-4, cosine lambda' of the report's code: T in epochs, a step every second epoch."""

_base_ = "./study_x101_siim_lr1e-4.py"

param_scheduler = [dict(type="SteppedCosineLR", T_max=35, eta_min_ratio=0.05, step_every=2, by_epoch=True)]
