"""Dropout of 0.7 in the head; the report, section 7, tried 0.5 to 0.7."""

_base_ = "./study_x101_siim.py"

model = dict(dropout=0.7)
