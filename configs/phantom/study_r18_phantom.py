"""The small study classifier on phantoms, from random weights: what `make demo` trains. Phantoms prove nothing clinical.

What differs from the small recipe was chosen here, by the macro F1 of phantoms of another seed (docs/studies.md).
"""

_base_ = "../small/study_r18_siim.py"

pretrained = "none"

# the whole radiograph: the centre crop cuts off outer lung, where typical opacities lie
whole = dict(type="Resize", scale=(112, 112), keep_ratio=False)
train_pipeline = [_base_.load_image, whole, *_base_.augment, _base_.pack]
test_pipeline = [_base_.load_image, whole, _base_.pack]
# one study in twelve is atypical
train_dataloader = dict(sampler=dict(_delete_=True, type="ClassAwareSampler"), dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))

# 300 steps of 15 images from random weights are too few for SGD
optim_wrapper = dict(optimizer=dict(_delete_=True, type="AdamW", lr=1e-3, weight_decay=0.05))
# single epochs swing on so few studies, averaged weights do not
custom_hooks = [
    *_base_.custom_hooks,
    dict(type="EMAHook", ema_type="ExpMomentumEMA", momentum=0.01, gamma=100, update_buffers=True),
]
# On 36 images, three of them atypical, a ranking cannot pick a checkpoint: the best mAP once picked an epoch that called
# every negative study atypical. The loss counts every image.
train_cfg = dict(val_interval=5)
default_hooks = dict(checkpoint=dict(interval=5, save_best="val_loss", rule="less"))
