"""SIIM with YOLOv5's augmentations. Probabilities are those of the report, section 5, unless marked otherwise.

What the report does not name, marked 'code', has the value of the report's code.
"""

_base_ = "./siim_detection.py"

size = 512

affine = dict(
    type="CentredAffine",
    max_rotate_degree=0.1,  # code, and so are the next three
    max_translate_ratio=0.1,
    scaling_ratio_range=(0.5, 1.5),
    max_shear_degree=0.1,
    border_val=(114, 114, 114),
    # which boxes stay: published
    min_bbox_size=2,
    min_area_ratio=0.1,
    max_aspect_ratio=100,
)
mosaic = [
    dict(type="Mosaic", img_scale=(size, size), pad_val=114.0, prob=1.0),  # code
    dict(**affine, border=(-size // 2, -size // 2)),  # the mosaic is twice the size
]
mixup = dict(type="YOLOv5MixUp", prob=0.5, alpha=32.0, beta=32.0)  # of two mosaics: code; Beta(32, 32): published
augment = [
    # the report names HSV; gains of the code. On grey images only value changes anything.
    dict(type="YOLOv5HSVRandomAug", hue_delta=0.015, saturation_delta=0.7, value_delta=0.4),
    dict(type="RandomFlip", prob=0.5, direction="horizontal"),
    dict(type="RandomFlip", prob=0.1, direction="vertical"),
    dict(type="PackDetInputs"),
]
load_pipeline = [dict(type="LoadGreyImage"), dict(type="LoadAnnotations", with_bbox=True)]
train_pipeline = [*mosaic, dict(**mixup, pre_transform=mosaic), *augment]
test_pipeline = [
    *_base_.load_with_boxes,
    # a letterbox whose padding is at the right and below, so that undoing it is undoing the scale
    dict(type="Resize", scale=(size, size), keep_ratio=True),
    dict(type="Pad", size=(size, size), pad_val=dict(img=(114, 114, 114))),
    _base_.pack,
]
# With `test_time_augmentation = True`: three scales and their mirror images, merged by NMS. The report's code
# merged scales 1, 0.83 (mirrored) and 0.67, also without averaging.
tta_model = dict(type="DetTTAModel", tta_cfg=dict(nms=dict(type="nms", iou_threshold=0.5), max_per_img=300))
tta_mirrored = [
    [dict(type="RandomFlip", prob=0.0), dict(type="RandomFlip", prob=1.0)],
    [dict(type="Pad", size_divisor=32, pad_val=dict(img=(114, 114, 114)))],
    [
        dict(
            type="PackDetInputs",
            meta_keys=(
                *("img_id", "img_path", "ori_shape", "img_shape", "scale_factor", "flip", "flip_direction"),
                *("study_id", "study_class"),
            ),
        )
    ],
]
scales = [dict(type="Resize", scale=(side, side), keep_ratio=True) for side in (size, size * 5 // 6, size * 2 // 3)]
tta_pipeline = [dict(type="LoadImageFromFile"), dict(type="TestTimeAug", transforms=[scales, *tta_mirrored])]

train_dataloader = dict(
    batch_size=3,
    dataset=dict(
        _delete_=True,
        type="MultiImageMixDataset",
        dataset=dict(**_base_.siim, ann_file="annotations/train.json", pipeline=load_pipeline),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
