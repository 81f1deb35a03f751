import json

import pytest
import torch

from covidmm.engine.training_images import image_key, names_in, require_unseen, training_images
from covidmm.errors import CheckpointError
from covidmm.models.publishing import publish

NAMES = [("study1", "a"), ("study2", "b")]


@pytest.fixture
def dataset(tmp_path):
    """A data set of two images, one of another project's file."""
    images = [
        {"id": 1, "file_name": "x/a.png", "width": 9, "height": 9, "image_id": "a", "study_id": "study1"},
        {"id": 2, "file_name": "x/c.png", "width": 9, "height": 9},
    ]
    (tmp_path / "train.json").write_text(json.dumps({"images": images, "annotations": [], "categories": []}))
    return {"data_root": str(tmp_path), "ann_file": "train.json"}


@pytest.fixture
def trained(tmp_path):
    def write(name, *names):
        meta = {"training_images": torch.tensor([image_key(*one) for one in names])} if names else {}
        torch.save({"state_dict": {"a": torch.ones(1)}, "meta": meta}, tmp_path / f"{name}.pth")
        return {name: tmp_path / f"{name}.pth"}

    return write


def test_images_are_those_of_all_parts_of_a_data_set(dataset):
    assert names_in(dataset) == [("study1", "a"), ("", "c")]
    assert len(names_in({"type": "RepeatDataset", "dataset": {"datasets": [dataset, dataset]}})) == 4
    assert names_in({"datasets": [dataset, {"ann_file": "no.json"}]}) is None


def test_a_training_that_goes_on_from_another_has_the_images_of_both(dataset):
    earlier = training_images(dataset)
    both = training_images(dataset, torch.tensor([5]))
    assert set(both.tolist()) == {5, *earlier.tolist()}
    assert training_images({"ann_file": "no.json"}, earlier) is earlier
    assert training_images({"ann_file": "no.json"}) is None


def test_a_model_is_not_scored_on_what_trained_it(trained, capsys):
    models = trained("frcnn", ("study1", "a")) | trained("yolo", ("study9", "b")) | trained("old")
    with pytest.raises(CheckpointError, match=r"^frcnn: 1 of the 2 images of val trained it, such as 'a'; .*--allow"):
        require_unseen(models, NAMES, "val")
    require_unseen(models, NAMES, "val", allowed=True)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("warning: frcnn: 1 of the 2 images of val trained it")
    assert second == "unknown, for the checkpoint does not say it: whether val trained old"
    require_unseen({"yolo": models["yolo"]}, NAMES, "val")
    assert capsys.readouterr().out == ""


def test_a_published_model_keeps_classes_thresholds_and_training_images(trained, tmp_path, monkeypatch):
    monkeypatch.setenv("COVIDMM_CHECKPOINTS", str(tmp_path / "store"))
    path = trained("frcnn", ("study1", "a"))["frcnn"]
    content = torch.load(path, weights_only=True)
    content["meta"] |= {"dataset_meta": {"classes": ("opacity",)}, "val_metrics": {"detection/threshold": 0.4}}
    torch.save(content, path)
    publish(path, "mine", part="model")
    meta = torch.load(tmp_path / "store/mine.pth", weights_only=True)["meta"]
    assert meta["dataset_meta"] == {"classes": ("opacity",)}
    assert meta["val_metrics"] == {"detection/threshold": 0.4}
    with pytest.raises(CheckpointError, match="trained it"):
        require_unseen({"frcnn": tmp_path / "store/mine.pth"}, NAMES, "val")
