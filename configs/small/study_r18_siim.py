"""The study-level classifier sized for two CPU cores: the backbone of r18_nih.py by name. Numbers chosen here."""

_base_ = "../study_x101_siim.py"

pretrained_weights = dict(imagenet="torchvision://resnet18", nih="covidmm://r18_nih")

model = dict(
    backbone=dict(
        _delete_=True,
        type="ResNet",
        depth=18,
        out_indices=(3,),
        norm_eval=False,
        style="pytorch",
    ),
    in_channels=512,
    hidden_channels=256,
)
train_pipeline = [*_base_.train_pipeline]
train_pipeline[1:3] = [
    dict(type="Resize", scale=(100000, 128), keep_ratio=True),
    dict(type="CenterCrop", crop_size=112),
]
test_pipeline = [*_base_.test_pipeline]
test_pipeline[1:3] = [dict(type="Resize", scale=(100000, 128), keep_ratio=True), dict(type="CenterCrop", crop_size=112)]
train_dataloader = dict(num_workers=1, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(num_workers=1, dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(num_workers=1, dataset=dict(pipeline=test_pipeline))

train_cfg = dict(max_epochs=30)
# so few images cannot carry a frozen backbone of so few images: all of it learns
optim_wrapper = dict(optimizer=dict(lr=0.02, weight_decay=5e-4))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=40),
    dict(type="SteppedCosineLR", T_max=30, eta_min_ratio=0.05, by_epoch=True, begin=0, end=30),
]
