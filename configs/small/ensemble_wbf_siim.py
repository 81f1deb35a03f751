"""The ensemble of the small experiments. `make demo` makes its checkpoints; docs/submissions.md says how to make your own."""

_base_ = "../ensemble_wbf_siim.py"

max_size = 512  # the networks see 256 px
batch_size = 8
members = dict(
    frcnn=dict(config="{{fileDirname}}/frcnn_r18_siim.py", checkpoint="covidmm://frcnn_r18_siim", score_threshold=0.01),
    yolo=dict(config="{{fileDirname}}/yolov5n_siim.py", checkpoint="covidmm://yolov5n_siim", score_threshold=0.01),
)
study = dict(config="{{fileDirname}}/study_r18_siim.py", checkpoint="covidmm://study_r18_siim")
