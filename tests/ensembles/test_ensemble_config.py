import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from mmengine.config import Config

import covidmm.ensembles
import covidmm.studies
from covidmm.ensembles.ensemble_config import Member, load_ensemble
from covidmm.errors import ConfigError, PluginError
from covidmm.findings import OPACITY
from covidmm.outputs.kaggle import Rerank
from covidmm.plugins import PluginManager

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


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("ensemble_*_*.py")), ids=lambda path: path.stem)
def test_mmengine_alone_reads_the_same(path):
    config, plain = load_ensemble(path), Config.fromfile(path)
    members = {name: {**plain.members[name], "backend": member.backend} for name, member in config.members.items()}
    assert list(plain.members) == list(config.members)
    assert {name: Member(**member) for name, member in members.items()} == config.members
    for key in ("strategy", "study", "none", "rerank", "max_size", "batch_size"):
        assert plain[key] == getattr(config, key)


def test_dicts_merge_and_delete_replaces(tmp_path):
    replaced = child(tmp_path, "strategy = dict(_delete_=True, type='soft_nms', sigma=0.3)")
    assert load_ensemble(replaced).strategy == {"type": "soft_nms", "sigma": 0.3}
    assert load_ensemble(child(tmp_path, "strategy = {'_delete_': True, 'type': 'nms'}")).strategy == {"type": "nms"}
    assert load_ensemble(child(tmp_path, "strategy = dict(iou_thr=0.4)")).strategy == {**WBF, "iou_thr": 0.4}
    assert load_ensemble(child(tmp_path, "strategy = dict(type='nmw')")).strategy == {**WBF, "type": "nmw"}


def test_delete_without_anything_below_is_no_argument(tmp_path):
    text = "members = dict(a=dict(config='a', checkpoint='b'))\nstudy = dict(_delete_=True, type='from_detections')"
    config = load_ensemble(child(tmp_path, text, CONFIGS / "_base_/ensemble.py"))
    assert config.study == {"type": "from_detections"}


def test_a_grandchild_adds_to_the_type_that_its_parent_chose(tmp_path):
    text = "strategy = dict(sigma=0.2)"
    config = load_ensemble(child(tmp_path, text, CONFIGS / "ensemble_soft_nms_siim.py"))
    assert config.strategy == {"type": "soft_nms", "iou_thr": 0.5, "sigma": 0.2}


def test_an_argument_inherited_from_another_type_says_what_to_write(tmp_path):
    manager = PluginManager([covidmm.ensembles, covidmm.studies], installed=False)
    parent = child(tmp_path, "strategy = dict(type='soft_nms', sigma=0.3)").rename(tmp_path / "parent.py")
    said = (
        f"{parent}: strategy: 'soft_nms' has no argument 'skip_box_thr', inherited from the base's 'wbf'; "
        "write strategy = dict(_delete_=True, type='soft_nms', ...)"
    )
    for path in (parent, child(tmp_path, "strategy = dict(sigma=0.2)", parent)):
        with pytest.raises(PluginError, match=f"^{re.escape(said)}$"):
            load_ensemble(path).build_strategy(manager)
    study = load_ensemble(child(tmp_path, "study = dict(type='from_detections')"))
    with pytest.raises(PluginError, match=r"study: 'from_detections' has no argument 'config', inherited .* 'resnext'"):
        study.build_classifier(manager, OPACITY)
    # what the file itself misspells is no inheritance, nor is what an override adds to the type that it chose
    with pytest.raises(PluginError, match="'iou_th': did you mean 'iou_thr'"):
        load_ensemble(child(tmp_path, "strategy = dict(iou_th=0.4)")).build_strategy(manager)
    options = ["strategy.type=nms", "strategy.final_nms=0.5"]
    with pytest.raises(PluginError, match="'nms' has no argument 'final_nms'; it has: iou_thr"):
        load_ensemble(child(tmp_path, ""), options).build_strategy(manager)


def test_a_member_is_added_changed_replaced_and_removed(tmp_path):
    member = "dict(config='a.py', checkpoint='b.pth')"
    base = load_ensemble(CONFIGS / "ensemble_wbf_siim.py").members

    def members(text, options=()):
        return load_ensemble(child(tmp_path, f"members = {text}"), options).members

    assert members(f"dict(third={member})") == {**base, "third": Member("a.py", "b.pth")}
    assert members("dict(yolo=dict(weight=2.0))") == {**base, "yolo": replace(base["yolo"], weight=2.0)}
    replaced = members("dict(yolo=dict(_delete_=True, config='a.py', checkpoint='b.pth'))")
    assert replaced == {**base, "yolo": Member("a.py", "b.pth")}
    alone = "dict(_delete_=True, yolo={{_base_.members.yolo}})"
    assert members(alone) == {"yolo": base["yolo"]}
    assert members(alone, ["members.yolo.weight=3"])["yolo"].weight == 3


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
    for options, strategy in (
        (["strategy.type=nms"], {"type": "nms"}),
        (["strategy.type=wbf"], {"type": "wbf"}),
        (["strategy.sigma=0.2", "strategy.type=soft_nms"], {"type": "soft_nms", "sigma": 0.2}),
    ):
        assert load_ensemble(CONFIGS / "ensemble_wbf_siim.py", options).strategy == strategy


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
    with pytest.raises(ConfigError, match=r"is the config of one model, which tools/train\.py and tools/test\.py read"):
        load_ensemble(CONFIGS / "small/yolov5n_siim.py")
    (tmp_path / "empty.py").write_text("members = dict()")
    with pytest.raises(ConfigError, match="has no 'strategy'; inherit"):
        load_ensemble(tmp_path / "empty.py")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("strategy = None", "strategy must be a dict with a type, not None"),
        ("none = None", "none must be a dict, not None"),
        ("rerank = 5", "rerank must be a dict, not 5"),
        ("none = dict(wieght=0.3)", "unknown key 'wieght' in none: did you mean 'weight'"),
        ("rerank = dict(scores=0.8)", "unknown key 'scores' in rerank"),
        ("none = dict(weight=3)", "none: weight must lie in 0..1, not 3"),
    ],
)
def test_rules_and_strategy_that_cannot_be_read_are_one_line(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        load_ensemble(child(tmp_path, text)).rules()


def test_rules_are_inherited_and_changed(tmp_path):
    none, rerank = load_ensemble(child(tmp_path, "")).rules()
    assert (none.rule, none.weight, rerank) == ("blend", 0.5, Rerank())
    for text in ("dict(score=0.84, none=0.16)", "dict(_delete_=True, score=0.84, none=0.16)"):
        assert load_ensemble(child(tmp_path, f"rerank = {text}")).rules()[1] == Rerank(0.84, 0.16)
    assert load_ensemble(child(tmp_path, "rerank = None")).rules()[1] == Rerank()
