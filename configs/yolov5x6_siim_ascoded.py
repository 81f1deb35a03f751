"""What the report's code trained under the name of yolov5l: YOLOv5x6 of version 5.0, with CIoU and its own gains.

tools/convert_checkpoint.py yolov5 yolov5x6.pt checkpoints/yolov5x6_coco.pth --num-classes 1
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
        loss_cls=dict(loss_weight=0.0047),
        level_balance=[4.0, 1.0, 0.25, 0.06],
    ),
    test_cfg=dict(nms=dict(iou_threshold=0.6)),
    init_cfg=dict(checkpoint="covidmm://yolov5x6_coco"),
)

# 35 epochs; its learning rate was stepped every epoch too
max_epochs = 35
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(type="SteppedCosineLR", T_max=max_epochs, eta_min_ratio=0.05, by_epoch=True, begin=0, end=max_epochs),
    *_base_.warmup,
]
