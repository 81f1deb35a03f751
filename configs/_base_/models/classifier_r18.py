"""The classifier sized for two CPU cores: ResNet-18 and a smaller hidden layer, chosen here."""

_base_ = "./classifier_x101.py"

# "nih" is what small/r18_nih.py was published as
pretrained_weights = dict(imagenet="torchvision://resnet18", nih="covidmm://r18_nih")

model = dict(
    backbone=dict(_delete_=True, type="ResNet", depth=18, out_indices=(3,), norm_eval=False, style="pytorch"),
    in_channels=512,
    hidden_channels=256,
)
