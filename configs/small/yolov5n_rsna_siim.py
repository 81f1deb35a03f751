"""The small YOLOv5 on SIIM, from the weights of configs/small/yolov5n_rsna.py in the checkpoint store."""

_base_ = "./yolov5n_siim.py"

model = dict(init_cfg=dict(_delete_=True, type="Pretrained", checkpoint="covidmm://yolov5n_rsna"))
