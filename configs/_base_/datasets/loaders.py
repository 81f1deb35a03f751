"""Data loaders that draw the same samples in an epoch whether its training was stopped before it or not."""

train_dataloader = dict(
    num_workers=4,
    persistent_workers=False,
    worker_init_fn=dict(type="seed_worker"),
    sampler=dict(type="DefaultSampler", shuffle=True),
)
val_dataloader = dict(
    num_workers=4,
    persistent_workers=False,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
)
test_dataloader = val_dataloader
