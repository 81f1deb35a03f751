"""What turns a detector of MMDetection into an experiment on any prepared folder, whatever its classes.

It comes beside a config of MMDetection as a base, as siim_detector.py does for SIIM; names begin with ``findings``. The number of classes
of the heads follows the folder. FINDINGS_ROOT names it.
"""

custom_imports = dict(imports=["covidmm.registration"], allow_failed_imports=False)
randomness = dict(seed=0)

findings_root = "{{$FINDINGS_ROOT:data/findings}}"
findings = dict(type="FindingsDataset", data_root=findings_root, data_prefix=dict(img="images/"))
findings_train = dict(**findings, ann_file="annotations/train.json")
findings_val = dict(**findings, ann_file="annotations/val.json")
findings_test = dict(**findings, ann_file="annotations/test.json")
findings_loader = dict(num_workers=1, persistent_workers=False, worker_init_fn=dict(type="seed_worker"))
findings_val_evaluator = dict(_delete_=True, type="DetectionMetric", ann_file=f"{findings_root}/annotations/val.json")
findings_test_evaluator = dict(_delete_=True, type="DetectionMetric", ann_file=f"{findings_root}/annotations/test.json")
# the best checkpoint by validation, for an exact resume; the checks of configs/_base_/default_runtime.py
findings_hooks = dict(
    checkpoint=dict(_delete_=True, type="ResumableCheckpointHook", save_best="detection/mAP_50", rule="greater")
)
findings_checks = [
    dict(type=name)
    for name in ("PreflightHook", "EpochSeedHook", "FiniteLossHook", "PositiveSamplesHook", "ValidationLossHook")
]
