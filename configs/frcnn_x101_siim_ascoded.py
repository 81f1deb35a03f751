"""The schedule of the report's code: T in epochs, a step every second epoch, so 0.53 of the rate is left."""

_base_ = "./frcnn_x101_siim.py"

param_scheduler = [dict(type="SteppedCosineLR", T_max=50, eta_min_ratio=0.05, step_every=2, by_epoch=True)]
