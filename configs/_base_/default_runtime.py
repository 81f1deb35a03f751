"""What every experiment shares: plugins, logging, checkpoints, seeds."""

default_scope = "mmdet"
custom_imports = dict(imports=["covidmm.registration"], allow_failed_imports=False)

default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=10),
    param_scheduler=dict(type="ParamSchedulerHook"),
    # the best checkpoint by validation and the last two, so that one is whole whatever happens
    checkpoint=dict(
        type="ResumableCheckpointHook",
        interval=1,
        max_keep_ckpts=2,
        save_best="detection/mAP_50",
        rule="greater",
    ),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    pretrained=dict(type="PretrainedHook"),  # what `pretrained = ...` names, where a config has it
)
custom_hooks = [
    dict(type="PreflightHook"),
    dict(type="EpochSeedHook"),
    dict(type="FiniteLossHook"),
    dict(type="PositiveSamplesHook"),
    dict(type="ValidationLossHook"),
]
log_processor = dict(type="LogProcessor", window_size=20, by_epoch=True)
vis_backends = [dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")]
visualizer = dict(type="DetLocalVisualizer", vis_backends=vis_backends, name="visualizer")

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),
)
randomness = dict(seed=0)  # chosen here; the report names no seed
log_level = "INFO"
load_from = None
resume = False
