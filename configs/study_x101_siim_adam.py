"""The setting 'Adam 1e-3' of the report, section 7: 35 epochs."""

_base_ = "./study_x101_siim_lr1e-4.py"

optim_wrapper = dict(optimizer=dict(_delete_=True, type="Adam", lr=1e-3))
