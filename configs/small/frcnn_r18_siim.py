"""The report's Faster R-CNN experiment sized for two CPU cores: ResNet-18 at 320 px, from random weights.

Everything that this file does not name is configs/frcnn_x101_siim.py: the head, the losses, the
augmentations and the shape of the schedule.
"""

_base_ = "../frcnn_x101_siim.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="ResNet",
        depth=18,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=-1,  # nothing is pretrained, so nothing is frozen
        norm_cfg=dict(type="BN", requires_grad=True),
        norm_eval=False,
        style="pytorch",
        init_cfg=None,
    ),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
