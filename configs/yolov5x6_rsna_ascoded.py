"""The RSNA stage of the report's code: what configs/yolov5x6_siim_ascoded.py starts from, at epoch 30.

tools/convert_checkpoint.py yolov5 yolov5x6.pt checkpoints/yolov5x6_coco.pth --num-classes 1
"""

_base_ = "./yolov5x6_siim_ascoded.py"

rsna = dict(type="RSNADataset", data_root="{{$RSNA_ROOT:data/rsna}}")
train_dataloader = dict(dataset=dict(dataset=rsna))
val_dataloader = dict(dataset=rsna)
test_dataloader = dict(dataset=rsna)
val_evaluator = dict(ann_file="{{$RSNA_ROOT:data/rsna}}/annotations/val.json")
test_evaluator = dict(ann_file="{{$RSNA_ROOT:data/rsna}}/annotations/test.json")

model = dict(init_cfg=dict(checkpoint="covidmm://yolov5x6_coco"))
default_hooks = dict(checkpoint=dict(max_keep_ckpts=6))  # epoch 30 of 35 is still there at the end
