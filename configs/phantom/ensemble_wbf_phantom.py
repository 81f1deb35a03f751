"""The ensemble of the demo's models, at the sizes that they were trained at. Phantoms prove nothing clinical."""

_base_ = "../small/ensemble_wbf_siim.py"

members = dict(
    frcnn=dict(config="{{fileDirname}}/frcnn_r18_phantom.py"),
    # the better of the two on the validation phantoms counts twice
    yolo=dict(config="{{fileDirname}}/yolov5n_phantom.py", weight=2.0),
)
study = dict(config="{{fileDirname}}/study_r18_phantom.py")
