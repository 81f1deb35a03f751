"""Four detectors of MMDetection beside the small Faster R-CNN and YOLOv5, fused with equal weights (chosen here)."""

_base_ = "./ensemble_wbf_siim.py"

members = dict(
    cascade=dict(config="{{fileDirname}}/cascade_r18_siim.py", checkpoint="work_dirs/cascade_r18_siim"),
    dino=dict(config="{{fileDirname}}/dino_r18_siim.py", checkpoint="work_dirs/dino_r18_siim"),
    rtmdet=dict(config="{{fileDirname}}/rtmdet_tiny_siim.py", checkpoint="work_dirs/rtmdet_tiny_siim"),
    tood=dict(config="{{fileDirname}}/tood_r18_siim.py", checkpoint="work_dirs/tood_r18_siim"),
)
