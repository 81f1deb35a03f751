"""A weight decay of 0.3; the report, section 7, tried 1e-5 to 0.3."""

_base_ = "./study_x101_siim.py"

optim_wrapper = dict(optimizer=dict(weight_decay=0.3))
