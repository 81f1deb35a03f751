"""The report's classifier: ResNeXt-101 and a hidden layer (report, sections 3.1 and 7)."""

_base_ = "./x101.py"

model = dict(
    type="RadiographClassifier",
    data_preprocessor=dict(type="ImgDataPreprocessor"),
    backbone=dict(out_indices=(3,), frozen_stages=-1),
    in_channels=2048,
    hidden_channels=1024,
    dropout=0.5,
)
