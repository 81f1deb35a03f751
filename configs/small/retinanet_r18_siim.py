"""RetinaNet as MMDetection ships it, on SIIM at 256 px (chosen here): a third member for an ensemble."""

_base_ = "mmdet::retinanet/retinanet_r18_fpn_1x_coco.py"
custom_imports = dict(imports=["covidmm.registration"], allow_failed_imports=False)
model = dict(backbone=dict(init_cfg=None, frozen_stages=-1, norm_eval=False), bbox_head=dict(num_classes=1))
data_root = "{{$SIIM_ROOT:data/siim}}"
siim = dict(type="SIIMDataset", data_root=data_root, data_prefix=dict(img="images/"))
train, test = [
    [{**t, "scale": (256, 256)} if "scale" in t else t for t in p]
    for p in (_base_.train_pipeline, _base_.test_pipeline)
]
train_dataloader = dict(
    batch_size=4,
    persistent_workers=False,
    worker_init_fn=dict(type="seed_worker"),
    dataset=dict(ann_file="annotations/train.json", pipeline=train, **siim),
)
val_dataloader = dict(dataset=dict(ann_file="annotations/val.json", pipeline=test, **siim))
test_dataloader = dict(dataset=dict(ann_file="annotations/test.json", pipeline=test, **siim))
val_evaluator = dict(_delete_=True, type="DetectionMetric", ann_file=f"{data_root}/annotations/val.json")
test_evaluator = dict(_delete_=True, type="DetectionMetric", ann_file=f"{data_root}/annotations/test.json")

# what configs/_base_/default_runtime.py gives the others: checks, seeds, and checkpoints for an exact resume
randomness = dict(seed=0)
default_hooks = dict(checkpoint=dict(type="ResumableCheckpointHook", save_best="detection/mAP_50", rule="greater"))
custom_hooks = [
    dict(type=name)
    for name in ("PreflightHook", "EpochSeedHook", "FiniteLossHook", "PositiveSamplesHook", "ValidationLossHook")
]
