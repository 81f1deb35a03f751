import numpy as np
import pytest

from covidmm.audit import lung_attention as attention
from covidmm.audit.checks import Level
from covidmm.audit.lung_attention import check_attention, share_inside
from covidmm.audit.lungs import find_lungs
from covidmm.datasets.prepared_folder import read_prepared
from covidmm.errors import ConfigError


def test_mass_is_counted_inside_the_region():
    heat = np.array([[0.0, 0.0], [1.0, 3.0]], np.float32)
    right = np.zeros((2, 2), bool)
    right[:, 1] = True
    assert share_inside(heat, right) == pytest.approx(0.75)
    assert share_inside(np.ones((3, 3), np.float32), np.tri(9, dtype=bool)) == pytest.approx(np.tri(9).mean())


@pytest.fixture
def looking(monkeypatch):
    """A classifier whose Grad-CAM is made by a function of the picture."""

    def replace(look):
        class Picture:
            def __init__(self, pixels):
                self.pixels = pixels

            def numpy(self):
                return self.pixels[None]

        def explain(picture):
            return np.array([0.1, 0.7, 0.1, 0.1]), look(picture.pixels)

        monkeypatch.setattr(attention, "SPLIT", "train")
        classes = ("negative", "typical", "indeterminate", "atypical")
        monkeypatch.setattr(attention, "_classifier", lambda config, checkpoint: (explain, Picture, classes))

    return replace


def field_of(pixels, otherwise):
    found = find_lungs(pixels)
    return (otherwise if found is None else found).astype(np.float32)


def test_a_network_that_looks_at_the_corners_is_a_warning(clean, looking):
    looking(lambda pixels: np.pad(np.zeros((6, 6), np.float32), 1, constant_values=1))
    check = check_attention(read_prepared(clean).images, "a.py", "a.pth")
    assert check.level is Level.WARNING
    assert check.numbers["high"] < 0
    assert check.numbers["inside"] < check.numbers["area"]
    assert len(check.tables[0].rows) == check.numbers["used"] == check.numbers["images"]


def test_a_network_that_looks_at_the_lungs_is_not(clean, looking):
    looking(lambda pixels: field_of(pixels, np.ones((4, 4))))
    check = check_attention(read_prepared(clean).images, "a.py", "a.pth")
    assert check.level is Level.OK
    assert check.numbers["low"] > 0.2
    assert check.tables[0].rows[0][1] == "typical"


def test_a_network_that_looks_everywhere_is_told_and_not_judged(clean, looking):
    looking(lambda pixels: np.ones((4, 4), np.float32))
    check = check_attention(read_prepared(clean).images, "a.py", "a.pth")
    assert check.level is Level.OK
    assert check.numbers["inside"] == pytest.approx(check.numbers["area"], abs=0.02)


def test_no_heat_and_no_outlines_are_said(clean, looking, monkeypatch):
    looking(lambda pixels: np.zeros((4, 4), np.float32))
    assert "no image has any" in check_attention(read_prepared(clean).images, "a.py", "a.pth").summary
    monkeypatch.setattr(attention, "find_lungs", lambda pixels: None)
    assert "too few to judge" in check_attention(read_prepared(clean).images, "a.py", "a.pth").summary


def test_a_trained_classifier_is_asked_through_its_own_pipeline(clean, tmp_path, monkeypatch):
    import torch
    from mmdet.registry import MODELS
    from mmengine.registry import init_default_scope

    from covidmm.engine.config import load_config

    monkeypatch.setenv("SIIM_ROOT", str(clean))
    cfg = load_config("configs/phantom/study_r18_phantom.py")
    init_default_scope("mmdet")
    model = MODELS.build(cfg.model)
    model.init_weights()
    torch.save({"state_dict": model.state_dict()}, tmp_path / "a.pth")
    config = "configs/phantom/study_r18_phantom.py"
    check = check_attention(read_prepared(clean).images, config, str(tmp_path / "a.pth"))
    assert check.numbers["used"] > 5
    assert 0 < check.numbers["inside"] < 1
    # the whole radiograph goes into this network, so the outline takes what it takes of the picture
    assert 0.2 < check.numbers["area"] < 0.6


def test_a_detector_has_no_grad_cam(clean, tmp_path):
    import torch
    from mmdet.registry import MODELS
    from mmengine.registry import init_default_scope

    from covidmm.engine.config import load_config

    config = "configs/phantom/yolov5n_phantom.py"
    init_default_scope("mmdet")
    torch.save({"state_dict": MODELS.build(load_config(config).model).state_dict()}, tmp_path / "a.pth")
    with pytest.raises(ConfigError, match="needs a classifier"):
        check_attention(read_prepared(clean).images, config, str(tmp_path / "a.pth"))
