"""The parts of the jobs that need no training; whole runs are in tests/e2e/test_train.py."""

from types import SimpleNamespace

import pytest

from covidmm.errors import CheckpointError, ConfigError
from covidmm.jobs import train_test as models
from covidmm.jobs.train_test import _load, _set_aside, evaluate, train
from covidmm.utils.malloc import EVERYTHING


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)


def test_the_work_dir_is_the_argument_or_named_after_the_config(tmp_path):
    assert _load("configs/small/frcnn_r18_siim.py", None, [], "none").work_dir == "work_dirs/frcnn_r18_siim"
    assert _load("configs/small/frcnn_r18_siim.py", tmp_path, [], "none").work_dir == str(tmp_path)


def test_earlier_checkpoints_are_moved_each_time_to_a_new_folder(tmp_path):
    for number in (1, 2):
        (tmp_path / "epoch_3.pth").write_bytes(b"%d" % number)
        (tmp_path / "best_x_epoch_3.pth").touch()
        _set_aside(tmp_path)
        assert (tmp_path / f"earlier_{number}/epoch_3.pth").read_bytes() == b"%d" % number
    assert not list(tmp_path.glob("*.pth"))


def test_a_folder_without_checkpoints_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").touch()
    _set_aside(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_faults_are_raised_before_anything_is_built(tmp_path):
    with pytest.raises(ConfigError, match="did you mean"):
        train("configs/small/frcnn_r18_siim.py", tmp_path, options=["trian_cfg.max_epochs=1"])
    with pytest.raises(CheckpointError, match="nothing to resume"):
        train("configs/small/frcnn_r18_siim.py", tmp_path, resume=True)
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        evaluate("configs/small/frcnn_r18_siim.py", tmp_path / "none.pth", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_training_keeps_the_memory_of_its_steps(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(models, "keep_freed_memory", done.append)
    runner = SimpleNamespace(train=lambda: done.append("trained"))
    monkeypatch.setattr(models, "_runner", lambda cfg, trains: runner)
    assert train("configs/small/frcnn_r18_siim.py", tmp_path) == tmp_path
    assert done == [EVERYTHING, "trained"]
