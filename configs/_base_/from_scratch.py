"""A schedule for a detector of MMDetection from random weights, whose own begins from a pretrained backbone. Chosen here.

A warm-up of 100 batches, then a cosine over the whole run.
"""

scratch_schedule = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, end=100),
    dict(type="SteppedCosineLR", eta_min_ratio=0.05, by_epoch=True),
]
