"""YOLOv5-l on the RSNA pneumonia challenge, from COCO weights: the first stage of the report's second detector.

Prepare with ``tools/prepare.py rsna RAW data/rsna``: images with opacities alone, as in the report.
"""

_base_ = "./yolov5l_siim.py"

train_cfg = dict(max_epochs=40)  # of the report's draft

rsna = dict(type="RSNADataset", data_root="{{$RSNA_ROOT:data/rsna}}")
train_dataloader = dict(dataset=dict(dataset=rsna))
val_dataloader = dict(dataset=rsna)
test_dataloader = dict(dataset=rsna)
val_evaluator = dict(ann_file="{{$RSNA_ROOT:data/rsna}}/annotations/val.json")
test_evaluator = dict(ann_file="{{$RSNA_ROOT:data/rsna}}/annotations/test.json")

# tools/convert_checkpoint.py yolov5 yolov5l.pt checkpoints/yolov5l_coco.pth --num-classes 1
model = dict(init_cfg=dict(checkpoint="covidmm://yolov5l_coco"))
