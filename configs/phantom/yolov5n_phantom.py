"""The small YOLOv5 on phantoms, 16 epochs: what `make demo` trains beside the Faster R-CNN. Phantoms prove nothing
clinical.
"""

_base_ = "../small/yolov5n_siim.py"

train_cfg = dict(max_epochs=16, val_interval=2)
