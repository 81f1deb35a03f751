"""The demo's YOLOv5 on phantoms of several findings: FINDINGS_ROOT names them. Phantoms prove nothing clinical."""

_base_ = "yolov5n_phantom.py"

train_cfg = dict(max_epochs=32)  # of several classes each has fewer boxes

data_root = "{{$FINDINGS_ROOT:data/findings}}"
findings = dict(type="FindingsDataset", data_root=data_root)
train_dataloader = dict(dataset=dict(dataset=findings))
val_dataloader, test_dataloader = (dict(dataset=findings) for _ in range(2))
val_evaluator = dict(ann_file=f"{data_root}/annotations/val.json")
test_evaluator = dict(ann_file=f"{data_root}/annotations/test.json")
