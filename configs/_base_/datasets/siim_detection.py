"""SIIM-FISABIO-RSNA COVID-19, prepared by ``tools/prepare.py siim RAW data/siim``: opacity detection.

Augmentations and their probabilities are those of the report, section 4.2, unless marked otherwise.
SIIM_ROOT names the prepared folder.
"""

_base_ = "./loaders.py"

# annotations before Resize, in the test pipeline too, so that the validation loss sees boxes in the model's pixels
load_with_boxes = [dict(type="LoadImageFromFile"), dict(type="LoadAnnotations", with_bbox=True)]
crop = dict(type="BoxSafeRandomCrop", min_share=0.5)  # min_share chosen here
augment = [
    dict(type="RandomFlip", prob=0.3),
    # limits +-20 % chosen here
    dict(
        type="RandomApply",
        prob=0.3,
        transforms=[
            dict(type="Brightness", prob=1.0, min_mag=0.8, max_mag=1.2),
            dict(type="Contrast", prob=1.0, min_mag=0.8, max_mag=1.2),
        ],
    ),
    # shift and rotate without scaling; the shift of 1/16 is chosen here
    dict(
        type="RandomApply",
        prob=0.3,
        transforms=[
            dict(
                type="CentredAffine",
                max_rotate_degree=20.0,
                max_translate_ratio=0.0625,
                scaling_ratio_range=(1.0, 1.0),
                max_shear_degree=0.0,
                border_val=(0, 0, 0),
            )
        ],
    ),
    # sharpen, blur or neither; strengths chosen here
    dict(
        type="RandomChoice",
        transforms=[
            [dict(type="Sharpness", prob=1.0, min_mag=1.2, max_mag=1.9)],
            [dict(type="RandomBlur", kernel_sizes=(3, 5))],
            [],
        ],
        prob=[0.5, 0.25, 0.25],
    ),
    # at most six discs; diameters up to the 32 px of the squares in the report's code
    dict(type="RandomApply", prob=0.3, transforms=[dict(type="CircularCutout", max_holes=6, radius=(8, 16))]),
    dict(type="FilterAnnotations", min_gt_bbox_wh=(1e-2, 1e-2), keep_empty=False),
    dict(type="PackDetInputs"),
]
pack = dict(
    type="PackDetInputs",
    meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor", "study_id", "study_class"),
)
train_pipeline = [*load_with_boxes, crop, dict(type="Resize", scale=(512, 512), keep_ratio=False), *augment]
# 1024 px (report, section 4.1), stretched as in training; predictions are scaled back by scale_factor
test_pipeline = [*load_with_boxes, dict(type="Resize", scale=(1024, 1024), keep_ratio=False), pack]

data_root = "{{$SIIM_ROOT:data/siim}}"
siim = dict(type="SIIMDataset", data_root=data_root)
train_dataloader = dict(batch_size=10, dataset=dict(**siim, ann_file="annotations/train.json", pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=6, dataset=dict(**siim, ann_file="annotations/val.json", test_mode=True, pipeline=test_pipeline)
)
test_dataloader = dict(
    batch_size=6, dataset=dict(**siim, ann_file="annotations/test.json", test_mode=True, pipeline=test_pipeline)
)
val_evaluator = dict(type="DetectionMetric", ann_file=f"{data_root}/annotations/val.json")
test_evaluator = dict(type="DetectionMetric", ann_file=f"{data_root}/annotations/test.json")
