"""NIH ChestX-ray14, prepared by ``tools/prepare.py nih RAW data/nih``: 14 findings and No Finding.

Augmentations and their probabilities are those of the report, section 3.2, unless marked otherwise.
NIH_ROOT names the prepared folder.
"""

_base_ = "./loaders.py"

findings = (
    *("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis", "Hernia"),
    *("Infiltration", "Mass", "Nodule", "Pleural_Thickening", "Pneumonia", "Pneumothorax", "No Finding"),
)

load_image = dict(type="LoadImageFromFile")
# the short side to 256
fit = [dict(type="Resize", scale=(100000, 256), keep_ratio=True), dict(type="CenterCrop", crop_size=224)]
augment = [
    # kernel sizes chosen here
    dict(type="RandomApply", prob=0.3, transforms=[dict(type="RandomBlur", kernel_sizes=(3, 5))]),
    dict(type="RandomFlip", prob=0.5),
    dict(type="Rotate", prob=1.0, min_mag=0.0, max_mag=20.0, img_border_value=0),
    # 1 to 10 % of the area; erased to the mean grey of ImageNet, chosen here
    dict(
        type="RandomApply",
        prob=0.3,
        transforms=[dict(type="RandomErasing", n_patches=1, ratio=(0.1, 0.316), squared=False, img_border_value=114)],
    ),
]
pack = dict(type="PackClassInputs")
train_pipeline = [load_image, *fit, *augment, pack]
test_pipeline = [load_image, *fit, pack]

nih = dict(type="NIHDataset", data_root="{{$NIH_ROOT:data/nih}}")
train_dataloader = dict(batch_size=32, dataset=dict(**nih, ann_file="annotations/train.json", pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=32, dataset=dict(**nih, ann_file="annotations/val.json", test_mode=True, pipeline=test_pipeline)
)
test_dataloader = dict(
    batch_size=32, dataset=dict(**nih, ann_file="annotations/test.json", test_mode=True, pipeline=test_pipeline)
)
val_evaluator = dict(type="LabelMetric", classes=findings, multi_label=True, prefix="findings")
test_evaluator = val_evaluator
