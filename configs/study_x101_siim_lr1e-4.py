"""The setting 'SGD 1e-4' of the report, section 7: 35 epochs."""

_base_ = "./study_x101_siim.py"

optim_wrapper = dict(optimizer=dict(lr=1e-4))
train_cfg = dict(max_epochs=35)
