import shutil
from pathlib import Path

import pytest

from covidmm.ensembles.ensemble_config import load_ensemble
from covidmm.errors import ConfigError

CONFIGS = Path(__file__).parents[2] / "configs"
WBF = {"type": "wbf", "iou_thr": 0.55, "skip_box_thr": 0.0, "final_nms": 0.5}


def child(folder, text, base=CONFIGS / "ensemble_wbf_siim.py"):
    path = folder / "mine.py"
    path.write_text(f'_base_ = "{base}"\n{text}\n')
    return path


def test_the_report_is_what_the_config_says():
    config = load_ensemble(CONFIGS / "ensemble_wbf_siim.py")
    assert config.strategy == WBF
    assert [(m.weight, m.score_threshold, m.nms_iou_threshold) for m in config.members.values()] == [
        (1.0, 0.1, 0.1)
    ] * 2
    assert config.members["frcnn"].config == str(CONFIGS / "frcnn_x101_siim.py")
    assert config.study["type"] == "resnext"


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("ensemble_*_*.py")), ids=lambda path: path.stem)
def test_every_shipped_ensemble_names_configs_that_exist(path):
    config = load_ensemble(path)
    assert all(Path(member.config).is_file() for member in config.members.values())


@pytest.mark.parametrize("name", ["nms", "soft_nms", "nmw"])
def test_a_sibling_changes_the_strategy_alone(name):
    config, base = (load_ensemble(CONFIGS / f"ensemble_{kind}_siim.py") for kind in (name, "wbf"))
    assert config.strategy["type"] == name
    assert (config.members, config.study, config.none) == (base.members, base.study, base.none)


def test_a_dict_with_a_type_stands_alone_and_one_without_adds(tmp_path):
    swapped = child(tmp_path, "strategy = dict(type='soft_nms', sigma=0.3)")
    assert load_ensemble(swapped).strategy == {"type": "soft_nms", "sigma": 0.3}
    assert load_ensemble(child(tmp_path, "strategy = {'type': 'nms'}")).strategy == {"type": "nms"}
    assert load_ensemble(child(tmp_path, "strategy = dict(iou_thr=0.4)")).strategy == {**WBF, "iou_thr": 0.4}


def test_a_grandchild_adds_to_the_type_that_its_parent_chose(tmp_path):
    text = "strategy = dict(sigma=0.2)"
    config = load_ensemble(child(tmp_path, text, CONFIGS / "ensemble_soft_nms_siim.py"))
    assert config.strategy == {"type": "soft_nms", "iou_thr": 0.5, "sigma": 0.2}


def test_the_hash_is_of_what_it_says_not_of_where_it_lies(tmp_path):
    base = load_ensemble(CONFIGS / "ensemble_wbf_siim.py")
    shutil.copytree(CONFIGS, tmp_path / "configs")
    assert load_ensemble(tmp_path / "configs/ensemble_wbf_siim.py").sha256 == base.sha256
    same = load_ensemble(CONFIGS / "ensemble_wbf_siim.py", ["members.yolo.checkpoint=/x/yolov5l_siim"])
    assert Path(base.members["yolo"].checkpoint).name == "yolov5l_siim"
    assert same.sha256 == base.sha256
    for option in ("members.yolo.weight=2", "strategy.iou_thr=0.4", "study=None", "max_size=64"):
        assert load_ensemble(CONFIGS / "ensemble_wbf_siim.py", [option]).sha256 != base.sha256


def test_options_override(tmp_path):
    config = load_ensemble(CONFIGS / "ensemble_wbf_siim.py", ["strategy.iou_thr=0.4", "members.yolo.weight=2"])
    assert config.strategy["iou_thr"] == 0.4
    assert config.members["yolo"].weight == 2
    assert load_ensemble(CONFIGS / "ensemble_wbf_siim.py", ["strategy.type=nms"]).strategy == {"type": "nms"}


def test_helpers_and_a_third_member_are_welcome(tmp_path):
    text = "extra = dict(config='a.py', checkpoint='b.pth')\nmembers = dict(third=extra)"
    assert list(load_ensemble(child(tmp_path, text)).members) == ["frcnn", "yolo", "third"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stratgey = dict(type='wbf')", "unknown key 'stratgey' in the config: did you mean 'strategy'"),
        ("members = dict(yolo=dict(wieght=2))", "member 'yolo': unknown key 'wieght': did you mean 'weight'"),
        ("members = dict(third=dict(config='a.py'))", "member 'third': has no 'checkpoint'"),
        ("members = dict(yolo=dict(weight=0))", "member 'yolo': weight must be positive"),
        ("members = dict(yolo=dict(weight=float('nan')))", "member 'yolo': weight must be positive"),
        ("members = dict(yolo=dict(weight='2'))", "member 'yolo': .*not supported"),
        ("members = dict(yolo=dict(score_threshold=1.5))", "score_threshold must lie in 0..1"),
        ("members = dict(yolo=dict(nms_iou_threshold=0))", "nms_iou_threshold must lie in 0..1"),
        ("members = {'../yolo': dict(config='a', checkpoint='b')}", "the name becomes a file name"),
        ("members = dict(_delete_=True)", "has no members"),
        ("strategy = 'wbf'", "strategy must be a dict with a type, not 'wbf'"),
        ("max_size = 0", "max_size must be a positive integer"),
        ("import nothing_of_that_name", "No module named"),
    ],
)
def test_faults_are_one_line(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load_ensemble(child(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_config_of_something_else_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="unknown key"):
        load_ensemble(CONFIGS / "small/yolov5n_siim.py")
    (tmp_path / "empty.py").write_text("members = dict()")
    with pytest.raises(ConfigError, match="has no 'strategy'; inherit"):
        load_ensemble(tmp_path / "empty.py")
