"""The small YOLOv5 on phantoms, 16 epochs: what `make demo` trains beside the Faster R-CNN. Phantoms prove nothing
clinical.
"""

_base_ = "../small/yolov5n_siim.py"

train_cfg = dict(max_epochs=16, val_interval=2)
param_scheduler = [
    dict(type="SteppedCosineLR", T_max=16, eta_min_ratio=0.05, by_epoch=True, begin=0, end=16),
    *_base_.warmup,
]
