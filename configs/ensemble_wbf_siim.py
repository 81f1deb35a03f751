"""The report's ensemble: Faster R-CNN and YOLOv5-l by weighted boxes fusion, study classes by ResNeXt-101.

Its checkpoints are those of frcnn_x101_siim.py, yolov5l_siim.py and study_x101_siim.py, published to the
checkpoint store under these names: docs/submissions.md.
"""

_base_ = "./_base_/ensemble.py"

# confidence 0.1 and NMS at 0.1 before the fusion (report, section 6)
members = dict(
    frcnn=dict(
        config="{{fileDirname}}/frcnn_x101_siim.py",
        checkpoint="covidmm://frcnn_x101_siim",
        weight=1.0,
        score_threshold=0.1,
        nms_iou_threshold=0.1,
    ),
    yolo=dict(
        config="{{fileDirname}}/yolov5l_siim.py",
        checkpoint="covidmm://yolov5l_siim",
        weight=1.0,
        score_threshold=0.1,
        nms_iou_threshold=0.1,
    ),
)
study = dict(
    type="resnext",
    config="{{fileDirname}}/study_x101_siim.py",
    checkpoint="covidmm://study_x101_siim",
)
