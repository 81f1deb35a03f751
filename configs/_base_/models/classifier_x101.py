"""ResNeXt-101 32x8d with the report's hidden layer (system-spec sections 3 and 7)."""

# one inherited line chooses: pretrained = "imagenet"
pretrained = "nih"
pretrained_weights = dict(imagenet="torchvision://resnext101_32x8d", nih="covidmm://x101_nih", none=None)

model = dict(
    type="RadiographClassifier",
    data_preprocessor=dict(
        type="ImgDataPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    backbone=dict(
        type="ResNeXt",
        depth=101,
        groups=32,
        base_width=8,
        num_stages=4,
        out_indices=(3,),
        frozen_stages=-1,
        norm_cfg=dict(type="BN", requires_grad=True),
        norm_eval=False,
        style="pytorch",
    ),
    in_channels=2048,
    hidden_channels=1024,
    dropout=0.5,
)
