"""The small Faster R-CNN on phantoms, 192 px and 12 epochs: what `make demo` trains. Phantoms prove nothing clinical."""

_base_ = "../small/frcnn_r18_siim.py"

# every other epoch is enough to pick a checkpoint, and the demo has six minutes
train_cfg = dict(max_epochs=12, val_interval=2)
optim_wrapper = dict(optimizer=dict(lr=0.02))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type="SteppedCosineLR", eta_min_ratio=0.05, step_every=2, by_epoch=True),
]

resize = dict(type="Resize", scale=(192, 192), keep_ratio=False)
train_pipeline = [*_base_.load_with_boxes, _base_.crop, resize, *_base_.augment]
test_pipeline = [*_base_.load_with_boxes, resize, _base_.pack]
train_dataloader = dict(batch_size=4, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
