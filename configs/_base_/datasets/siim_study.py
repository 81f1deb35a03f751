"""SIIM-FISABIO-RSNA COVID-19: the appearance of a study. Transforms are those of the backbone (report, section 7)."""

_base_ = "./nih_findings.py"

appearances = ("negative", "typical", "indeterminate", "atypical")
siim = dict(type="SIIMStudyDataset", data_root="{{$SIIM_ROOT:data/siim}}")

train_dataloader = dict(batch_size=15, dataset=siim)
val_dataloader = dict(batch_size=15, dataset=siim)
test_dataloader = dict(batch_size=15, dataset=siim)
# the report scored images; here those of a study are averaged
metric = dict(type="LabelMetric", classes=appearances, multi_label=False, aggregate="mean", prefix="study")
val_evaluator = dict(_delete_=True, **metric)
test_evaluator = dict(_delete_=True, **metric)
