"""The schedule of YOLOv5 (report, section 5): SGD with Nesterov momentum, warm-up, equation (1) stepped every epoch."""

warmup_iterations = 1000

train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=30, val_interval=1)  # epochs of the report's draft
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

optim_wrapper = dict(
    type="MixedPrecisionOptimWrapper",  # float16 on CUDA, bfloat16 on a CPU with units
    constructor="NamedGroupsConstructor",  # weights decay, batch norms and biases do not
    optimizer=dict(type="SGD", lr=0.01, momentum=0.937, nesterov=True, weight_decay=0.0005),
    accumulative_counts=21,  # batches of 3 to the nominal 64
)
warmup = [
    # biases from 0.1 down to 0.01, everything else from (nearly) 0 up to it, momentum from 0.8 up to 0.937
    dict(type="WarmupLR", start_factor=0.001, group_start_factors=dict(bias=10.0), end=warmup_iterations),
    dict(type="LinearMomentum", start_factor=0.8 / 0.937, by_epoch=False, begin=0, end=warmup_iterations),
]
param_scheduler = [
    dict(type="SteppedCosineLR", eta_min_ratio=0.05, by_epoch=True),  # over the whole run
    *warmup,
]
