"""The small YOLOv5 on RSNA images with opacities: what configs/small/yolov5n_rsna_siim.py starts from."""

_base_ = "./yolov5n_siim.py"

rsna = dict(type="RSNADataset", data_root="{{$RSNA_ROOT:data/rsna}}")
train_dataloader = dict(dataset=dict(dataset=rsna))
val_dataloader = dict(dataset=rsna)
test_dataloader = dict(dataset=rsna)
val_evaluator = dict(ann_file="{{$RSNA_ROOT:data/rsna}}/annotations/val.json")
test_evaluator = dict(ann_file="{{$RSNA_ROOT:data/rsna}}/annotations/test.json")
