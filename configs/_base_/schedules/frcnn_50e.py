"""The schedule of Faster R-CNN (report, section 4.1): SGD with Nesterov momentum, equation (1), 50 epochs."""

train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=50, val_interval=1)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

# float16 on CUDA, bfloat16 on a CPU with units for it; only trainable parameters are optimised, without weight decay
optim_wrapper = dict(
    type="MixedPrecisionOptimWrapper",
    optimizer=dict(type="SGD", lr=1e-3, momentum=0.9, nesterov=True, weight_decay=0.0),
)
# Cosine from 1e-3 to 5 % of it over the whole run, one step every other epoch: 25 steps in 50 epochs. The report's code
# counted T in epochs while it stepped every second one (see frcnn_x101_siim_ascoded.py).
param_scheduler = [dict(type="SteppedCosineLR", eta_min_ratio=0.05, step_every=2, by_epoch=True)]
