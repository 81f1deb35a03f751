import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope

from covidmm.engine.config import load_config
from covidmm.evaluation.classification import calibration, confusion
from covidmm.prepare.options import Options
from covidmm.prepare.pipeline import prepare
from covidmm.reports.attention_pictures import draw_labels
from covidmm.reports.figures.png_figures import confusion_figure, reliability_figure

CLASSES = ["negative", "typical", "indeterminate", "atypical"]
TARGETS = np.eye(4)[[0, 0, 1, 2, 3]]
SCORES = np.eye(4)[[0, 1, 1, 2, 0]] * 0.6 + 0.1


def test_the_matrix_shows_every_count_and_share():
    axes = confusion_figure(CLASSES, confusion(TARGETS, SCORES)).axes[0]
    assert [text.get_text() for text in axes.texts][:4] == ["1\n50%", "1\n50%", "0\n0%", "0\n0%"]
    assert [label.get_text() for label in axes.get_xticklabels()] == CLASSES


def test_a_class_without_a_case_is_a_row_of_dashes():
    axes = confusion_figure(CLASSES, confusion(TARGETS[:4], SCORES[:4])).axes[0]
    assert [text.get_text() for text in axes.texts][12:] == ["-"] * 4


def test_reliability_is_drawn_per_bin():
    found = calibration(TARGETS, SCORES)
    above, below = reliability_figure(found).axes
    assert above.collections[1].get_offsets().tolist() == [[pytest.approx(0.7), pytest.approx(0.6)]]
    assert [bar.get_height() for bar in below.patches] == [5]
    assert below.texts[0].get_text() == "5"


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
