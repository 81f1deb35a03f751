"""The small ensemble with MMDetection's own RetinaNet as a third member."""

_base_ = "./ensemble_wbf_siim.py"

members = dict(
    retinanet=dict(config="{{fileDirname}}/retinanet_r18_siim.py", checkpoint="covidmm://retinanet_r18_siim"),
)
