"""The setting 'SGD 1e-4' of the report, section 7, with batches of 35; its one stored epoch says little."""

_base_ = "./study_x101_siim_lr1e-4.py"

train_dataloader = dict(batch_size=35)
