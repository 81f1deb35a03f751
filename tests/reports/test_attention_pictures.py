import cv2
import numpy as np
import torch
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope

from covidmm.engine.config import load_config
from covidmm.evaluation.classification import calibration, confusion
from covidmm.prepare.options import Options
from covidmm.prepare.pipeline import prepare
from covidmm.reports.attention_pictures import draw_labels

CLASSES = ["negative", "typical", "indeterminate", "atypical"]
TARGETS = np.eye(4)[[0, 0, 1, 2, 3]]
SCORES = np.eye(4)[[0, 1, 1, 2, 0]] * 0.6 + 0.1


def test_every_test_image_gets_a_picture_of_where_the_model_looked(make, tmp_path, monkeypatch):
    prepare("siim", make.siim(tmp_path / "raw", studies=12), tmp_path / "out", Options(workers=1, progress=False))
    monkeypatch.setenv("SIIM_ROOT", str(tmp_path / "out"))
    cfg = load_config(
        "configs/phantom/study_r18_phantom.py", ["test_dataloader.dataset.ann_file=annotations/train.json"]
    )
    init_default_scope("mmdet")
    model = MODELS.build(cfg.model)
    model.init_weights()
    torch.save({"state_dict": model.state_dict()}, tmp_path / "a.pth")
    details = {"classes": CLASSES, "confusion": confusion(TARGETS, SCORES), "calibration": calibration(TARGETS, SCORES)}
    draw_labels(tmp_path / "pictures", details, cfg, tmp_path / "a.pth")
    pictures = {path.stem for path in (tmp_path / "pictures").glob("*.png")}
    images = {path.stem for path in (tmp_path / "out/images").rglob("*.png")}
    assert {"confusion", "reliability"} < pictures
    assert pictures - {"confusion", "reliability"} <= images
    assert len(pictures) > 4
    one = cv2.imread(str(tmp_path / "pictures" / f"{(pictures & images).pop()}.png"))
    assert one.shape == (496, 896, 3)
    # the right half is the left one with colours over it
    assert np.ptp(one[:448, 448:].astype(int), axis=2).max() > np.ptp(one[:448, :448].astype(int), axis=2).max() == 0
