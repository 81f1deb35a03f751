"""The small study classifier on phantoms, from random weights: what `make demo` trains. Phantoms prove nothing clinical."""

_base_ = "../small/study_r18_siim.py"

pretrained = "none"
