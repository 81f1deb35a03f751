"""The report's setting 'SGD 1e-4, fixed': a constant rate, 35 epochs."""

_base_ = "./study_x101_siim_lr1e-4.py"

param_scheduler = []
