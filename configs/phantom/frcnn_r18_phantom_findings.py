"""The demo's Faster R-CNN on phantoms of several findings: FINDINGS_ROOT names them. Phantoms prove nothing clinical.

`tools/prepare.py phantom RAW --layout vindr`, then `tools/prepare.py vindr RAW data/findings`, makes them.
"""

_base_ = "frcnn_r18_phantom.py"

data_root = "{{$FINDINGS_ROOT:data/findings}}"
findings = dict(type="FindingsDataset", data_root=data_root)
train_dataloader, val_dataloader, test_dataloader = (dict(dataset=findings) for _ in range(3))
val_evaluator = dict(ann_file=f"{data_root}/annotations/val.json")
test_evaluator = dict(ann_file=f"{data_root}/annotations/test.json")
