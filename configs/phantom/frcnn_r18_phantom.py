"""The small Faster R-CNN on phantoms: what `make demo` trains. Phantoms test software, they prove nothing clinical."""

_base_ = "../small/frcnn_r18_siim.py"
