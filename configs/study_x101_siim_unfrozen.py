"""No layer frozen, which overfitted in the report, section 7."""

_base_ = "./study_x101_siim.py"

model = dict(backbone=dict(frozen_stages=-1, norm_eval=False))
