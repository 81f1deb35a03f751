"""What turns a detector of MMDetection into an experiment on SIIM. It comes beside a config of MMDetection as a base.

Names begin with ``siim``, so that none is MMDetection's; a config puts them where they belong, as
configs/small/tood_r18_siim.py does. Everything else, augmentations, schedule and optimizer, stays that of MMDetection's config.
"""

custom_imports = dict(imports=["covidmm.registration"], allow_failed_imports=False)
randomness = dict(seed=0)

siim_root = "{{$SIIM_ROOT:data/siim}}"
siim = dict(type="SIIMDataset", data_root=siim_root, data_prefix=dict(img="images/"))
siim_train = dict(**siim, ann_file="annotations/train.json")
siim_val = dict(**siim, ann_file="annotations/val.json")
siim_test = dict(**siim, ann_file="annotations/test.json")
siim_loader = dict(num_workers=1, persistent_workers=False, worker_init_fn=dict(type="seed_worker"))
siim_val_evaluator = dict(_delete_=True, type="DetectionMetric", ann_file=f"{siim_root}/annotations/val.json")
siim_test_evaluator = dict(_delete_=True, type="DetectionMetric", ann_file=f"{siim_root}/annotations/test.json")
# the best checkpoint by validation, for an exact resume; the checks of configs/_base_/default_runtime.py
siim_hooks = dict(
    checkpoint=dict(_delete_=True, type="ResumableCheckpointHook", save_best="detection/mAP_50", rule="greater")
)
siim_checks = [
    dict(type=name)
    for name in ("PreflightHook", "EpochSeedHook", "FiniteLossHook", "PositiveSamplesHook", "ValidationLossHook")
]
