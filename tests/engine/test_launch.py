"""Configs of several processes, and what is said when they cannot start; ``tests/e2e/test_torchrun.py`` starts some."""

import pytest
import torch
from mmengine.config import Config

from covidmm.engine import launch
from covidmm.engine.launch import launched, share_out
from covidmm.errors import ClusterError, ConfigError


@pytest.fixture
def config():
    return Config(
        {
            "train_dataloader": {"batch_size": 6},
            "val_evaluator": {"type": "DetectionMetric"},
            "test_evaluator": {"type": "DetectionMetric"},
            "custom_hooks": [{"type": "EMAHook"}],
        }
    )


@pytest.fixture
def processes(monkeypatch):
    def pretend(count):
        monkeypatch.setattr("mmengine.dist.is_distributed", lambda: True)
        monkeypatch.setattr("mmengine.dist.get_world_size", lambda: count)

    return pretend


def test_one_process_is_left_alone(config):
    before = config.to_dict()
    with launched("none"):
        share_out(config, trains=True)
    assert config.to_dict() == before


def test_the_batch_is_shared_out(config, processes):
    processes(3)
    share_out(config, trains=True)
    assert config.train_dataloader.batch_size == 2
    assert config.custom_hooks[-1].type == "SharedBuffersHook"
    assert config.val_evaluator.collect_device == "gpu"


def test_a_batch_that_cannot_be_shared_is_told_with_one_that_can(config, processes):
    processes(4)
    with pytest.raises(ConfigError, match=r"batch_size is 6, which 4 processes.*batch_size=8 fits"):
        share_out(config, trains=True)
    share_out(config, trains=False)  # a test trains nothing


def test_a_launcher_without_torchrun_is_one_line(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ConfigError, match="RANK is not set; start with `torchrun"), launched("pytorch"):
        pass


def test_torchrun_without_a_launcher_is_one_line(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="torchrun without --launcher pytorch"), launched("none"):
        pass
    monkeypatch.setenv("WORLD_SIZE", "1")
    with launched("none"):
        pass


@pytest.mark.skipif(torch.cuda.is_available(), reason="has GPUs")
def test_slurm_without_gpus_is_one_line():
    with pytest.raises(ConfigError, match="slurm needs GPUs"), launched("slurm"):
        pass


@pytest.fixture
def joined(monkeypatch):
    """As if other processes had been joined."""
    monkeypatch.setattr(launch, "_check", lambda *_: None)
    monkeypatch.setattr(launch, "_join", lambda *_: None)
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: None)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer"),
        torch.distributed.DistBackendError("NCCL communicator was aborted"),
    ],
)
def test_the_death_of_another_process_is_told(joined, error):
    with pytest.raises(ClusterError, match="another process of this run has ended"), launched("pytorch"):
        raise error


def test_other_errors_stay_what_they_are(joined):
    with pytest.raises(RuntimeError, match="out of memory"), launched("pytorch"):
        raise RuntimeError("out of memory")


def test_only_the_first_process_prints(joined, monkeypatch, capsys):
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        with launched("pytorch"):
            print("rank", rank)
    assert capsys.readouterr().out == "rank 0\n"
