"""The checkpoint hook in a real, tiny MMEngine run."""

import errno
import hashlib
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.evaluator import BaseMetric
from mmengine.fileio import get_file_backend
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch.utils.data import Dataset

import covidmm.registration  # noqa: F401 - registers the hooks
from covidmm.engine.checkpointing import (
    best_checkpoint,
    checkpoint_hashes,
    checkpoints_in,
    latest_checkpoint,
    load_trained,
)
from covidmm.engine.config import load_config
from covidmm.errors import CheckpointError, ConfigError
from covidmm.models.checkpoints import stored_val_metrics

YOLO = "configs/phantom/yolov5n_phantom.py"


class Numbers(Dataset):
    metainfo = {"classes": ("opacity",)}

    def __len__(self):
        return 8

    def __getitem__(self, index):
        # random on purpose: an exact resume has to draw the same noise
        return {"inputs": torch.rand(4) + index, "data_samples": torch.tensor(float(index))}


class Line(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def forward(self, inputs, data_samples=None, mode="tensor"):
        error = (self.layer(torch.stack(inputs))[:, 0] - torch.stack(data_samples)).square()
        return {"loss": error.mean()} if mode == "loss" else list(error.detach())


class Score(BaseMetric):
    default_prefix = "detection"

    def process(self, data_batch, data_samples):
        self.results += [float(x) for x in data_samples]

    def compute_metrics(self, results):
        return {"mAP_50": -sum(results), "threshold": 0.25}


class Killed(Exception):
    pass


def run(
    work_dir,
    epochs,
    *,
    resume=False,
    stop_in_validation_of=None,
    best="detection/mAP_50",
    loop=None,
    level="ERROR",
    **keep,
):
    torch.manual_seed(0)
    loader = {
        "batch_size": 2,
        "num_workers": 0,
        "dataset": Numbers(),
        "collate_fn": {"type": "pseudo_collate"},
        "worker_init_fn": {"type": "seed_worker"},
    }
    runner = Runner(
        model=Line(),
        work_dir=str(work_dir),
        train_dataloader={**loader, "sampler": {"type": "DefaultSampler", "shuffle": True}},
        val_dataloader={**loader, "sampler": {"type": "DefaultSampler", "shuffle": False}},
        train_cfg=loop or {"by_epoch": True, "max_epochs": epochs, "val_interval": 1},
        val_cfg={},
        val_evaluator=[Score()],
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 1e-3, "momentum": 0.9}},
        param_scheduler=[{"type": "CosineAnnealingLR", "T_max": 8, "eta_min": 1e-5, "by_epoch": False}]
        if loop
        else [{"type": "SteppedCosineLR", "T_max": 4, "eta_min_ratio": 0.05}],
        default_hooks={
            "checkpoint": {
                "type": "ResumableCheckpointHook",
                "interval": 1,
                "max_keep_ckpts": 2,
                "save_best": best,
                "rule": "greater",
                **keep,
            }
        },
        custom_hooks=[{"type": "EpochSeedHook"}],
        load_from=str(latest_checkpoint(work_dir)) if resume else None,
        resume=resume,
        randomness={"seed": 0},
        log_level=level,
        experiment_name=f"{work_dir.name}_{resume}",
    )
    if stop_in_validation_of is not None:
        original = runner.call_hook

        def call_hook(name, **kwargs):
            if name == "before_val_epoch" and (runner.iter if loop else runner.epoch) == stop_in_validation_of:
                raise Killed
            return original(name, **kwargs)

        runner.call_hook = call_hook
        with pytest.raises(Killed):
            runner.train()
    else:
        runner.train()


def contents(path):
    saved = torch.load(path, weights_only=True)
    for key in ("time", "experiment_name", "cfg"):
        saved["meta"].pop(key)
    saved["message_hub"]["runtime_info"] = {
        key: value
        for key, value in saved["message_hub"]["runtime_info"].items()
        if key in ("epoch", "iter", "best_score", "metrics_of_validation")
    }
    times = [name for name in saved["message_hub"]["log_scalars"] if "time" in name or "memory" in name]
    for name in times:
        saved["message_hub"]["log_scalars"].pop(name)
    return saved


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def test_a_run_stopped_while_validating_resumes_to_the_same_state(tmp_path):
    run(tmp_path / "whole", 4)
    run(tmp_path / "cut", 4, stop_in_validation_of=2)
    assert latest_checkpoint(tmp_path / "cut").name == "epoch_1.pth"
    run(tmp_path / "cut", 4, resume=True)
    assert sorted(p.name for p in (tmp_path / "cut").glob("*.pth")) == sorted(
        p.name for p in (tmp_path / "whole").glob("*.pth")
    )
    for name in ("epoch_3.pth", "epoch_4.pth"):
        whole, cut = contents(tmp_path / "whole" / name), contents(tmp_path / "cut" / name)
        assert len(whole["message_hub"]["log_scalars"]) >= 3
        assert equal(whole, cut)


def test_checkpoints_need_no_unpickling_and_carry_the_validation(tmp_path):
    run(tmp_path, 2)
    best = best_checkpoint(tmp_path)
    assert best.name.startswith("best_")
    scores = {n: stored_val_metrics(tmp_path / f"epoch_{n}.pth")["detection/mAP_50"] for n in (1, 2)}
    assert torch.load(best, weights_only=True)["meta"]["epoch"] == max(scores, key=scores.get)
    assert stored_val_metrics(best)["detection/threshold"] == 0.25
    assert stored_val_metrics(latest_checkpoint(tmp_path))["detection/mAP_50"] < 0
    assert len(list(tmp_path.glob("epoch_*.pth"))) == 2


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    run(tmp_path, 1)
    path = latest_checkpoint(tmp_path)
    saved = torch.load(path, weights_only=True)
    saved["state_dict"] = {"other": torch.ones(3)}
    torch.save(saved, path)
    with pytest.raises(CheckpointError, match=r"epoch_1\.pth: does not fit the model: 0\.0%"):
        run(tmp_path, 2, resume=True)


def test_an_empty_work_dir_has_nothing_to_resume(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint to resume"):
        latest_checkpoint(tmp_path)


def test_latest_is_by_number_and_ignores_half_names(tmp_path):
    for name in ("epoch_9.pth", "epoch_10.pth", ".epoch_11.pth.x1", "epoch_12.pth.tmp"):
        (tmp_path / name).touch()
    assert latest_checkpoint(tmp_path).name == "epoch_10.pth"


def test_a_full_disk_leaves_the_old_file_whole(tmp_path, monkeypatch):
    backend = get_file_backend(str(tmp_path), backend_args={"backend": "atomic"})
    target = tmp_path / "a.pth"
    backend.put(b"old", str(target))

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        backend.put(b"new", str(target))
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.pth"]


def test_a_best_that_the_validation_does_not_define_is_said_and_costs_nothing(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(MMLogger, "warning", lambda self, text, *values: said.append(text % values))
    run(tmp_path, 1, best="findings/auroc")
    assert any("findings/auroc is not defined on this validation set" in text for text in said)
    assert (tmp_path / "epoch_1.pth").is_file()
    assert not list(tmp_path.glob("best_*"))


def test_the_checkpoints_of_a_plugin_are_found_at_any_depth(tmp_path):
    names = ("a", "b")
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    wanted = [hashlib.sha256(name.encode()).hexdigest() for name in names]
    inner = [{"type": "x", "checkpoint": str(tmp_path / "b")}, {"type": "y", "checkpoint": None}]
    assert checkpoint_hashes({"checkpoint": str(tmp_path / "a"), "parts": inner}) == wanted
    assert checkpoint_hashes(None) == checkpoint_hashes({"type": "z"}) == []


def test_weights_and_meta_come_back(tmp_path):
    init_default_scope("mmdet")
    model = MODELS.build(load_config(YOLO).model)
    torch.save({"state_dict": model.state_dict(), "meta": {"epoch": 3}}, tmp_path / "a.pth")
    again, meta = load_trained(load_config(YOLO), tmp_path / "a.pth")
    assert meta == {"epoch": 3}
    assert not again.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_another_models_checkpoint_is_refused(tmp_path):
    torch.save({"state_dict": {"backbone.stem.weight": torch.zeros(3)}}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="does not fit the model"):
        load_trained(load_config(YOLO), tmp_path / "a.pth")


ITERATIONS = {"type": "IterBasedTrainLoop", "max_iters": 8, "val_interval": 4}


def test_a_run_that_counts_iterations_resumes_at_its_iteration(tmp_path):
    for name, killed in (("whole", None), ("cut", 8)):
        run(tmp_path / name, 0, loop=ITERATIONS, stop_in_validation_of=killed, by_epoch=False, interval=3)
    assert [p.name for p in checkpoints_in(tmp_path / "cut")] == [
        "iter_4.pth",
        "iter_6.pth",
    ]  # the best one is written again with its score
    run(tmp_path / "cut", 0, loop=ITERATIONS, resume=True, by_epoch=False, interval=3)
    whole, cut = (contents(latest_checkpoint(tmp_path / name)) for name in ("whole", "cut"))
    assert whole["meta"]["iter"] == cut["meta"]["iter"] == 8
    assert [p.name for p in checkpoints_in(tmp_path / "cut")] == ["iter_6.pth", "iter_8.pth"]
    assert best_checkpoint(tmp_path / "cut").name in (
        "best_detection_mAP_50_iter_4.pth",
        "best_detection_mAP_50_iter_8.pth",
    )
    rates = [c["message_hub"]["log_scalars"]["train/lr"]["values"] for c in (whole, cut)]
    assert len(rates[0]) == 8
    assert torch.equal(*rates)


def test_an_interval_of_epochs_is_one_of_validations_where_iterations_are_counted(tmp_path):
    run(tmp_path, 0, loop=ITERATIONS)
    assert [p.name for p in checkpoints_in(tmp_path)] == ["iter_4.pth", "iter_8.pth"]
    assert stored_val_metrics(latest_checkpoint(tmp_path))["detection/mAP_50"] < 0


def test_an_interval_of_iterations_is_refused_where_epochs_are_counted(tmp_path):
    with pytest.raises(ConfigError, match="by_epoch is False, expected True: train_cfg counts epochs"):
        run(tmp_path, 1, by_epoch=False)


@pytest.mark.parametrize("first", [None, ITERATIONS], ids=["epochs", "iterations"])
def test_a_training_is_not_resumed_by_one_that_counts_otherwise(tmp_path, first):
    run(tmp_path, 1, loop=first)
    with pytest.raises(CheckpointError, match=r"its training counted .*, train_cfg counts .*load_from="):
        run(tmp_path, 1, loop=None if first else ITERATIONS, resume=True)


def test_a_run_killed_in_a_validation_whose_interval_has_just_changed_repeats_its_epoch(tmp_path):
    # validates after epochs 2, 3 and 4, of 4 iterations each
    loop = {"by_epoch": True, "max_epochs": 4, "val_interval": 4, "dynamic_intervals": [(3, 1)]}
    run(tmp_path, 4, loop=loop, stop_in_validation_of=8)
    assert latest_checkpoint(tmp_path).name == "epoch_1.pth"


def test_one_checkpoint_to_keep_becomes_two(tmp_path):
    run(tmp_path, 3, level="INFO", max_keep_ckpts=1)
    assert [p.name for p in checkpoints_in(tmp_path)] == ["epoch_2.pth", "epoch_3.pth"]
    (log,) = tmp_path.glob("*/*.log")
    assert "two are kept, not max_keep_ckpts=1" in log.read_text()


def test_all_checkpoints_can_be_kept(tmp_path):
    run(tmp_path, 3, max_keep_ckpts=-1)
    assert len(checkpoints_in(tmp_path)) == 3
