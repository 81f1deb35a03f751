"""ResNeXt-101 32x8d, the backbone of the report's classifiers and of its Faster R-CNN (report, section 3.1)."""

# PretrainedHook starts the backbone from one of these; one inherited line chooses: pretrained = "imagenet"
pretrained = "nih"
pretrained_weights = dict(imagenet="torchvision://resnext101_32x8d", nih="covidmm://x101_nih", none=None)

model = dict(
    # ImageNet statistics, applied once (the report's code applied them twice)
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True),
    backbone=dict(
        type="ResNeXt",
        depth=101,
        groups=32,
        base_width=8,
        num_stages=4,
        norm_cfg=dict(type="BN", requires_grad=True),
        norm_eval=False,
        style="pytorch",
    ),
)
