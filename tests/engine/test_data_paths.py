from mmengine.config import Config

from covidmm.engine.config import load_config
from covidmm.engine.data_paths import find_data

OWN = """
_base_ = "covidmm::small/frcnn_r18_siim.py"
siim = dict(data_root="raw/my data")
train_dataloader, val_dataloader, test_dataloader = (dict(dataset=siim) for _ in range(3))
val_evaluator = dict(ann_file="raw/my data/annotations/val.json")
"""


def test_data_of_the_project_is_found_from_anywhere_and_said(tmp_path, monkeypatch, capsys):
    data = tmp_path / "raw/my data"
    (data / "annotations").mkdir(parents=True)
    (data / "annotations/val.json").touch()
    (tmp_path / "pyproject.toml").touch()
    own = tmp_path / "configs/own.py"
    own.parent.mkdir()
    own.write_text(OWN)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    cfg = load_config(own)
    assert cfg.train_dataloader.dataset.data_root == str(data)
    assert cfg.val_evaluator.ann_file == str(data / "annotations/val.json")
    assert f"data: raw/my data is not in the working directory, {data} is taken" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    assert load_config(own).train_dataloader.dataset.data_root == "raw/my data"


def test_an_annotation_file_below_a_data_root_is_left_to_it(tmp_path, monkeypatch):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/train.json").touch()
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "away").mkdir()
    monkeypatch.chdir(tmp_path / "away")
    dataset = {"type": "X", "data_root": "nowhere", "ann_file": "annotations/train.json"}
    wrapped = {"dataset": {"type": "Concat", "datasets": [dataset, {"ann_file": "annotations/train.json"}]}}
    cfg = Config({"train_dataloader": wrapped, "train_evaluator": None})
    find_data(cfg, [str(tmp_path / "own.py")])
    first, second = cfg.train_dataloader.dataset.datasets
    assert (first.data_root, first.ann_file) == ("nowhere", "annotations/train.json")
    assert second.ann_file == str(tmp_path / "annotations/train.json")
