import hashlib
import json

import pytest
import torch

from covidmm.errors import CheckpointError
from covidmm.models.checkpoints import load_from_store
from covidmm.models.publishing import publish


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("COVIDMM_CHECKPOINTS", str(tmp_path / "store"))
    meta = {
        "cfg": "data_root='data/nih'\n",
        "experiment_name": "x",
        "epoch": 3,
        "seed": 0,
        "dataset_meta": {"classes": ["Mass"]},
        "val_metrics": {"findings/auroc": 0.7, "findings/mAP": float("nan")},
    }
    state = {"backbone.conv1.weight": torch.ones(2), "head.0.weight": torch.zeros(1)}
    torch.save({"state_dict": state, "optimizer": {"lr": 1}, "meta": meta}, tmp_path / "best.pth")
    return tmp_path


def test_the_backbone_is_found_by_name_and_says_where_it_came_from(run):
    publish(run / "best.pth", "mine")
    content = load_from_store("covidmm://mine")
    assert list(content) == ["state_dict"]
    assert content["state_dict"].keys() == {"conv1.weight"}
    card = json.loads((run / "store/mine.json").read_text())
    assert card["sha256"] == hashlib.sha256((run / "store/mine.pth").read_bytes()).hexdigest()
    assert (card["part"], card["data"], card["classes"]) == ("backbone", ["data/nih"], ["Mass"])
    assert card["validation"] == {"findings/auroc": 0.7}
    assert card["date"]


def test_a_whole_model_keeps_its_names(run):
    publish(run / "best.pth", "whole", part="model")
    assert load_from_store("covidmm://whole")["state_dict"].keys() == {"backbone.conv1.weight", "head.0.weight"}


def test_twice_is_fine_and_other_weights_are_not_overwritten(run):
    publish(run / "best.pth", "mine")
    publish(run / "best.pth", "mine")
    with pytest.raises(CheckpointError, match="holds other weights"):
        publish(run / "best.pth", "mine", part="model")
    publish(run / "best.pth", "mine", part="model", replace=True)
    assert len(load_from_store("covidmm://mine")["state_dict"]) == 2


@pytest.mark.parametrize("name", ["../x", "", "a/b", ".hidden"])
def test_a_name_that_is_a_path_is_refused(run, name):
    with pytest.raises(CheckpointError, match="not a name"):
        publish(run / "best.pth", name)


def test_a_checkpoint_without_a_backbone_is_refused(run):
    torch.save({"state_dict": {"fc.weight": torch.ones(1)}}, run / "other.pth")
    with pytest.raises(CheckpointError, match=r"other\.pth: no parameter of the checkpoint begins with 'backbone\.'"):
        publish(run / "other.pth", "mine")


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ({"state_dict": {"backbone.a": 5}}, "'a' is no tensor"),
        ({"state_dict": {"backbone.a": torch.ones(1)}, "meta": {"seed": torch.ones(1)}}, "cannot be written as JSON"),
    ],
)
def test_what_cannot_be_published_leaves_nothing(tmp_path, monkeypatch, content, cause):
    monkeypatch.setenv("COVIDMM_CHECKPOINTS", str(tmp_path / "store"))
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=rf"a\.pth: .*{cause}"):
        publish(tmp_path / "a.pth", "name")
    assert not (tmp_path / "store").exists()
