"""NIH ChestX-ray14, prepared by ``tools/prepare.py nih RAW data/nih``: 14 findings and No Finding.

Augmentations and their probabilities are the report's (system-spec section 3, column 'Report') unless marked
otherwise. NIH_ROOT names the prepared folder.
"""

findings = (
    *("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis", "Hernia"),
    *("Infiltration", "Mass", "Nodule", "Pleural_Thickening", "Pneumonia", "Pneumothorax", "No Finding"),
)

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(100000, 256), keep_ratio=True),  # the short side to 256
    dict(type="CenterCrop", crop_size=224),
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
    dict(type="PackClassInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(100000, 256), keep_ratio=True),
    dict(type="CenterCrop", crop_size=224),
    dict(type="PackClassInputs"),
]

train_dataloader = dict(
    batch_size=32,
    num_workers=4,
    persistent_workers=False,
    worker_init_fn=dict(type="seed_worker"),
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type="NIHDataset",
        data_root="{{$NIH_ROOT:data/nih}}",
        ann_file="annotations/train.json",
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=4,
    persistent_workers=False,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="NIHDataset",
        data_root="{{$NIH_ROOT:data/nih}}",
        ann_file="annotations/val.json",
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = dict(
    batch_size=32,
    num_workers=4,
    persistent_workers=False,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="NIHDataset",
        data_root="{{$NIH_ROOT:data/nih}}",
        ann_file="annotations/test.json",
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
val_evaluator = dict(type="LabelMetric", classes=findings, multi_label=True, prefix="findings")
test_evaluator = dict(type="LabelMetric", classes=findings, multi_label=True, prefix="findings")
