"""The report's Faster R-CNN experiment sized for two CPU cores: ResNet-18, 320 px, from random weights.

Everything that this file does not name is configs/frcnn_x101_siim.py: losses, assigners, augmentations and
the shape of the schedule. All numbers here are chosen by covidmm.
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
    neck=dict(in_channels=[64, 128, 256, 512], out_channels=128),
    rpn_head=dict(in_channels=128, feat_channels=128),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=128), bbox_head=dict(in_channels=128, fc_out_channels=256)
    ),
    train_cfg=dict(rpn_proposal=dict(nms_pre=500, max_per_img=500), rcnn=dict(sampler=dict(num=128))),
    test_cfg=dict(rpn=dict(nms_pre=300, max_per_img=300)),
)
