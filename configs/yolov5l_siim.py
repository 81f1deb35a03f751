"""YOLOv5-l on SIIM, from weights trained on RSNA: the report's second detector."""

_base_ = [
    "_base_/models/yolov5l.py",
    "_base_/datasets/siim_yolov5.py",
    "_base_/schedules/yolov5.py",
    "_base_/default_runtime.py",
]

model = dict(
    data_preprocessor=dict(
        # multi-scale of the report's code: 512 px +-50 % in steps of 64
        batch_augments=[dict(type="BatchRandomResize", random_size_range=(256, 768), size_divisor=64)],
    ),
    init_cfg=dict(type="Pretrained", checkpoint="covidmm://yolov5l_rsna"),
)

# published: a decay of 0.9999, reached as 1 - exp(-steps / 2000) does. MMEngine counts batches, 21 to a step.
custom_hooks = [
    *_base_.custom_hooks,
    dict(type="EMAHook", ema_type="ExpMomentumEMA", momentum=0.0001, gamma=2000 * 21, interval=21, update_buffers=True),
]
