"""The report's setting without frozen layers, which overfitted."""

_base_ = "./study_x101_siim.py"

model = dict(backbone=dict(frozen_stages=-1, norm_eval=False))
