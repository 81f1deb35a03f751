"""Both detectors of phantoms with several findings, from their work dirs. Phantoms prove nothing clinical.

The classes are those of the members. Nothing classifies studies, so that an image without a box is one without a finding.
"""

_base_ = "../_base_/ensemble.py"

classes = None
max_size = 512
batch_size = 8
members = dict(
    frcnn=dict(
        config="{{fileDirname}}/frcnn_r18_phantom_findings.py",
        checkpoint="work_dirs/frcnn_r18_phantom_findings",
        score_threshold=0.01,
    ),
    yolo=dict(
        config="{{fileDirname}}/yolov5n_phantom_findings.py",
        checkpoint="work_dirs/yolov5n_phantom_findings",
        score_threshold=0.01,
    ),
)
study, none = None, dict(rule="no_box")
