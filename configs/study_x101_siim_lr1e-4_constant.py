"""The setting 'SGD 1e-4, fixed' of the report, section 7: a constant rate, 35 epochs."""

_base_ = "./study_x101_siim_lr1e-4.py"

param_scheduler = []
