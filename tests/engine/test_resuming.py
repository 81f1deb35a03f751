"""What a resumed training takes from its checkpoint, and what from its config, in tiny MMEngine runs."""

import logging
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook

from covidmm.engine.checked_runner import CheckedRunner
from covidmm.engine.checkpointing import latest_checkpoint
from covidmm.errors import CheckpointError
from tests.engine.test_checkpointing import Line, Numbers, Score

COSINE = {"type": "SteppedCosineLR", "eta_min_ratio": 0.05}
WARMUP = {"type": "LinearLR", "start_factor": 0.1, "by_epoch": False, "begin": 0, "end": 7}
PER_ITERATION = {"type": "CosineAnnealingLR", "eta_min": 0.0, "convert_to_iter_based": True}
MOMENTUM = {"type": "LinearMomentum", "start_factor": 0.5, "by_epoch": False, "begin": 0, "end": 11}
EMA = {"type": "EMAHook", "ema_type": "ExponentialMovingAverage", "momentum": 0.1, "update_buffers": True}
PLATEAU = {"type": "ReduceOnPlateauLR", "monitor": "detection/mAP_50", "rule": "greater", "patience": 1}


class Rates(Hook):
    """Keeps the learning rate, the momentum and the weight decay of every iteration."""

    def __init__(self):
        self.found = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        groups = runner.optim_wrapper.param_groups
        rates = [group["lr"] for group in groups] + runner.optim_wrapper.get_lr()["base_lr"]
        self.found.append((rates, groups[0].get("momentum"), groups[0]["weight_decay"]))


def build(
    work_dir, epochs, *, scheduler=(COSINE, WARMUP), resume=False, hooks=(), seed=0, best="detection/mAP_50", **sgd
):
    torch.manual_seed(0)
    loader = {"batch_size": 2, "num_workers": 0, "collate_fn": {"type": "pseudo_collate"}, "dataset": Numbers()}
    rates = Rates()
    cfg = {
        "train_cfg": {"by_epoch": True, "max_epochs": epochs, "val_interval": 1},
        "optim_wrapper": {
            # two groups, to which MMEngine adds one for the log
            "type": "OptimWrapper",
            "constructor": "NamedGroupsConstructor",
            "optimizer": {"type": "SGD", "lr": 1e-3, "momentum": 0.9, "weight_decay": 0.0, **sgd},
        },
        "param_scheduler": [dict(one) for one in scheduler],
        "randomness": {"seed": seed},
        "default_hooks": {"checkpoint": {"type": "ResumableCheckpointHook", "save_best": best, "rule": "greater"}},
        "load_from": str(latest_checkpoint(work_dir)) if resume else None,
        "resume": resume,
    }
    runner = CheckedRunner(
        model=Line(),
        work_dir=str(work_dir),
        train_dataloader={**loader, "sampler": {"type": "DefaultSampler", "shuffle": True}},
        val_dataloader={**loader, "sampler": {"type": "DefaultSampler", "shuffle": False}},
        val_cfg={},
        val_evaluator=[Score()],
        custom_hooks=[{"type": "EpochSeedHook"}, rates, *hooks],
        log_level="INFO",
        default_scope="mmdet",  # stays when the test has ended
        experiment_name=f"{work_dir.name}_{epochs}_{resume}",
        cfg=cfg,
        **cfg,
    )
    return runner, rates.found


def train(work_dir, epochs, **options):
    runner, found = build(work_dir, epochs, **options)
    runner.train()
    return found, torch.load(work_dir / f"epoch_{runner.epoch}.pth", weights_only=True), log_of(runner)


def log_of(runner):
    for handler in runner.logger.handlers:
        handler.flush()
    return next(h.baseFilename for h in runner.logger.handlers if isinstance(h, logging.FileHandler))


def lines(log):
    text = Path(log).read_text()
    return [line for line in text.splitlines() if "resume:" in line or "metainfo" in line]


@pytest.mark.parametrize(
    ("scheduler", "longer"),
    [
        ((COSINE, WARMUP, MOMENTUM), 6),
        ((COSINE, WARMUP, MOMENTUM), 3),
        ((PER_ITERATION, MOMENTUM), 6),
        (({"type": "MultiStepLR", "milestones": [1, 5], "gamma": 0.1},), 6),
        (({"type": "LinearLR", "start_factor": 1.0, "end_factor": 0.01},), 6),
    ],
    ids=["extended", "shortened", "per iteration", "milestones", "linear"],
)
def test_a_run_of_another_length_continues_with_the_rates_of_that_length(tmp_path, scheduler, longer):
    whole, _, _ = train(tmp_path / "whole", longer, scheduler=scheduler, hooks=(EMA,))
    killed(tmp_path / "run", 4, scheduler=scheduler, hooks=(EMA,))
    resumed, _, log = train(tmp_path / "run", longer, scheduler=scheduler, resume=True, hooks=(EMA,))
    assert resumed == whole[2 * 4 :]
    assert not any("metainfo" in line for line in lines(log))


def killed(work_dir, epochs, **options):
    """A run that ends after two epochs."""

    class Stop(Hook):
        def before_train_epoch(self, runner):
            if runner.epoch == 2:
                raise KeyboardInterrupt

    runner, _ = build(work_dir, epochs, **{**options, "hooks": (*options.get("hooks", ()), Stop())})
    with pytest.raises(KeyboardInterrupt):
        runner.train()


def test_an_unchanged_config_continues_to_the_last_bit(tmp_path):
    options = {"scheduler": (COSINE, WARMUP, MOMENTUM), "hooks": (EMA,)}
    _, whole, _ = train(tmp_path / "whole", 4, **options)
    killed(tmp_path / "run", 4, **options)
    _, resumed, log = train(tmp_path / "run", 4, **options, resume=True)
    assert lines(log) == []
    assert resumed["param_schedulers"] == whole["param_schedulers"]
    assert resumed["optimizer"]["param_groups"] == whole["optimizer"]["param_groups"]
    assert all(torch.equal(value, resumed["state_dict"][name]) for name, value in whole["state_dict"].items())
    assert "earlier" not in resumed["meta"]["provenance"]
    assert resumed["meta"]["provenance"] == whole["meta"]["provenance"]


def test_what_changes_is_taken_from_the_config_said_and_recorded(tmp_path):
    _, old, _ = train(tmp_path, 2)
    found, new, log = train(tmp_path, 4, lr=1e-2, weight_decay=0.1, momentum=0.8, resume=True)
    assert {decay for _, _, decay in found} == {0.1}
    assert new["optimizer"]["param_groups"][0]["initial_lr"] == 1e-2
    said = "\n".join(lines(log))
    assert "resume: weight_decay is 0.1 from the config, the checkpoint has 0.0" in said
    assert "resume: initial_lr is 0.01 from the config, the checkpoint has 0.001" in said
    assert "resume: momentum is 0.8 from the config, the checkpoint has 0.9" in said
    origin, before = new["meta"]["provenance"], old["meta"]["provenance"]
    assert origin["config_resolved_sha256"] != before["config_resolved_sha256"]
    assert origin["earlier"] == [{"epoch": 2, **before}]
    assert "max_epochs=4" in new["message_hub"]["runtime_info"]["cfg"]
    _, again, _ = train(tmp_path, 5, lr=1e-2, weight_decay=0.1, momentum=0.8, resume=True)
    assert [one["epoch"] for one in again["meta"]["provenance"]["earlier"]] == [2, 4]


def test_another_seed_is_not_taken_said_and_not_recorded(tmp_path):
    _, old, _ = train(tmp_path, 3)
    (tmp_path / "epoch_3.pth").unlink()
    _, new, log = train(tmp_path, 3, seed=7, resume=True)
    assert "randomness.seed is 7 in the config: not taken, a resumed training keeps its seed 0" in lines(log)[0]
    assert new["meta"]["provenance"] == old["meta"]["provenance"]
    assert "seed=0" in new["meta"]["cfg"]


def test_another_optimizer_is_refused(tmp_path):
    train(tmp_path, 1)
    runner, _ = build(tmp_path, 2, resume=True)
    runner.optim_wrapper["optimizer"] = {"type": "AdamW", "lr": 1e-3}
    with pytest.raises(CheckpointError, match=r"with this optimizer, whose settings are amsgrad, .* load_from="):
        runner.train()


def test_a_schedule_that_follows_a_metric_goes_on_and_cannot_change(tmp_path):
    killed(tmp_path, 4, scheduler=(PLATEAU,))
    found, state, _ = train(tmp_path, 4, scheduler=(PLATEAU,), resume=True)
    whole, _, _ = train(tmp_path / "whole", 4, scheduler=(PLATEAU,))
    assert found == whole[2 * 4 :]
    assert state["param_schedulers"][0]["end"] == 4
    with pytest.raises(CheckpointError, match="ReduceOnPlateauLR has patience 1, the config 2; a schedule"):
        train(tmp_path, 5, scheduler=({**PLATEAU, "patience": 2},), resume=True)


def test_a_best_of_another_metric_is_forgotten(tmp_path):
    train(tmp_path, 1)
    _, state, log = train(tmp_path, 2, best="detection/threshold", resume=True)
    assert "best_detection_mAP_50_epoch_1.pth was chosen by another metric than detection/threshold" in "".join(
        lines(log)
    )
    assert state["message_hub"]["runtime_info"]["best_score"] == 0.25


def test_without_averaging_a_run_goes_on_from_the_trained_weights(tmp_path):
    _, plain, _ = train(tmp_path / "plain", 2)
    train(tmp_path / "run", 1, hooks=(EMA,))
    _, resumed, log = train(tmp_path / "run", 2, resume=True)
    assert "the averaged weights of the checkpoint are not taken" in "".join(lines(log))
    assert set(resumed["state_dict"]) == set(plain["state_dict"])
