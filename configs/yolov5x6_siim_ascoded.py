"""What the report's code trained under the name of yolov5l: YOLOv5x6 of version 5.0, with CIoU and its own gains.

Numbers are those of the report's code. It started from the RSNA stage's epoch 30:

    tools/publish.py work_dirs/yolov5x6_rsna_ascoded/epoch_30.pth yolov5x6_rsna_ascoded
"""

_base_ = "./yolov5l_siim.py"

deepen_factor, widen_factor = 1.33, 1.25
in_channels = [256, 512, 768, 1024]

model = dict(
    data_preprocessor=dict(pad_size_divisor=64),
    backbone=dict(
        arch="P6", release="v5", deepen_factor=deepen_factor, widen_factor=widen_factor, out_indices=(2, 3, 4, 5)
    ),
    neck=dict(in_channels=in_channels, deepen_factor=deepen_factor, widen_factor=widen_factor),
    bbox_head=dict(
        in_channels=in_channels,
        widen_factor=widen_factor,
        # COCO's at 1280 px, published with the weights
        prior_generator=dict(
            base_sizes=[
                [(19, 27), (44, 40), (38, 94)],
                [(96, 68), (86, 152), (180, 137)],
                [(140, 301), (303, 264), (238, 542)],
                [(436, 615), (739, 380), (925, 792)],
            ],
            strides=[8, 16, 32, 64],
        ),
        loss_bbox=dict(type="CIoULoss"),
        # its gain was 0.0047, but the code computes no class loss where there is one class
        loss_cls=dict(loss_weight=0.0),
        level_balance=[4.0, 1.0, 0.25, 0.06],
    ),
    test_cfg=dict(nms=dict(iou_threshold=0.6)),
    init_cfg=dict(checkpoint="covidmm://yolov5x6_rsna_ascoded"),
)

train_cfg = dict(max_epochs=35)
# The code warms up for three epochs, and for 1000 iterations at least: three epochs are more from 1000 images on, and
# SIIM has 3,400. Its learning rate was stepped every epoch too, towards the floor 0.05; its `lrf` of 0.2 was not used.
three_epochs = dict(by_epoch=True, begin=0, end=3, convert_to_iter_based=True)
param_scheduler = [
    dict(type="SteppedCosineLR", eta_min_ratio=0.05, by_epoch=True),
    dict(type="WarmupLR", start_factor=0.001, group_start_factors=dict(bias=10.0), **three_epochs),
    dict(type="LinearMomentum", start_factor=0.8 / 0.937, **three_epochs),
]
