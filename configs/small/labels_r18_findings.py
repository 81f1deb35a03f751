"""A small classifier of images by what is on them, from any prepared folder: FINDINGS_ROOT names it.

Its classes are the folder's labels and the classes of its boxes; any number of them can hold. For exactly one:
``model = dict(multi_label=False, loss=dict(use_sigmoid=False))``, and ``negative`` for images without any.
"""

_base_ = "r18_nih.py"

model = dict(num_classes=1)  # follows the folder

# the whole radiograph: boxes lie at its edges, too
whole = dict(type="Resize", scale=(112, 112), keep_ratio=False)
folder = dict(type="FindingsLabelDataset", data_root="{{$FINDINGS_ROOT:data/findings}}")
train_dataloader = dict(dataset=dict(**folder, pipeline=[_base_.load_image, whole, *_base_.augment, _base_.pack]))
val_dataloader = dict(dataset=dict(**folder, pipeline=[_base_.load_image, whole, _base_.pack]))
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type="LabelMetric", multi_label=True, prefix="findings")
test_evaluator = val_evaluator
