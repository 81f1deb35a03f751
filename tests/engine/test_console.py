import logging
from pathlib import Path

from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger, print_log
from torch import nn
from torch.utils.data import DataLoader

from covidmm.engine.checked_runner import CheckedRunner
from covidmm.engine.console import ConsoleHook, quiet
from covidmm.utils import distributed


class Toy(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Linear(1, 1)
        self.frozen = nn.Linear(1, 1).requires_grad_(False)


def quiet_logger(tmp_path):
    logger = MMLogger.get_instance(f"console-{tmp_path.name}", log_file=str(tmp_path / "all.log"), log_level="INFO")
    quiet(logger)
    quiet(logger)  # a second time changes nothing
    return logger


def test_mmengines_lines_are_in_the_file_alone(capsys, tmp_path):
    logger = quiet_logger(tmp_path)
    logger.info("a table of MMEngine's")  # of this test, which is no part of covidmm
    print_log("a line of MMEngine's", logger)
    logger.warning("something is odd: %d", 3)
    logger.warning('"FileClient" will be deprecated in future.')
    namespace = {"logger": logger, "print_log": print_log}
    code = "logger.info('checked %d', 7)\nprint_log('filled', logger)"
    exec(compile(code, str(Path(distributed.__file__)), "exec"), namespace)
    assert capsys.readouterr().out.splitlines() == ["warning: something is odd: 3", "checked 7", "filled"]
    kept = (tmp_path / "all.log").read_text()
    assert all(text in kept for text in ("a table", "a line", "odd: 3", "FileClient", "checked 7", "filled"))
    assert kept.count("something is odd") == 1


class Learning(Toy):
    """A model whose loss falls, as MMEngine's runner calls it."""

    def train_step(self, data, optim_wrapper):
        loss = self.weight.weight.square().sum()
        optim_wrapper.update_params(loss)
        return {"loss": loss}

    def val_step(self, data):
        return data


class Scores(Evaluator):
    """A score for each validation."""

    def __init__(self, scores):
        super().__init__([])
        self.scores = iter(scores)

    def process(self, data_samples, data_batch=None):
        pass

    def evaluate(self, size):
        return {"toy/loss_like": 1.0, "toy/score": next(self.scores)}


def run(tmp_path, train_cfg, scores):
    runner = CheckedRunner(
        Learning(),
        work_dir=str(tmp_path),
        train_dataloader=DataLoader([1.0, 2.0, 3.0]),
        val_dataloader=DataLoader([1.0]),
        val_cfg={},
        val_evaluator=Scores(scores),
        train_cfg=train_cfg,
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.01}},
        default_hooks={"checkpoint": {"type": "CheckpointHook", "save_best": "toy/score", "rule": "greater"}},
        cfg={"train_dataloader": {"dataset": {"dataset": {"data_root": "data/toys"}}}},
        experiment_name=f"toy_{tmp_path.name}",
    )  # fmt: skip

    runner.register_hook(ConsoleHook())
    runner.train()


def test_a_training_by_epochs_prints_a_line_each(tmp_path, capsys):
    run(tmp_path, {"by_epoch": True, "max_epochs": 4, "val_interval": 2}, [0.5, 0.25])
    lines = [
        line
        for line in capsys.readouterr().out.splitlines()
        if "backend" not in line and not line.startswith("warning")
    ]
    assert lines[1] == "data    3 training images of data/toys"
    assert lines[2].startswith("model   Learning, 0.0 million parameters, 0.0 of them frozen")
    assert lines[3].endswith("4 epochs of 3 steps")
    assert lines[4].startswith(f"output  {tmp_path}; all that is logged: ")
    epochs = [line for line in lines if line.startswith("epoch")]
    assert [line.split("  ")[0] for line in epochs] == [f"epoch {k}/4" for k in (1, 2, 3, 4)]
    assert "score" not in epochs[0]
    assert "score 0.5000 (best 0.5000, epoch 2)" in epochs[1]
    assert "score 0.2500 (best 0.5000, epoch 2)" in epochs[3]
    assert lines[-1].startswith("trained in 0:0")
    assert "best_toy_score_epoch_2.pth" in lines[-1]
    assert len(lines) == 10


def test_a_training_by_steps_prints_a_line_for_each_validation(tmp_path, capsys):
    run(tmp_path, {"by_epoch": False, "max_iters": 6, "val_interval": 3}, [0.5, 0.75])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step")]
    assert [line.split("  ")[0] for line in lines] == ["step 3/6", "step 6/6"]
    assert "score 0.7500 (best 0.7500, step 6)" in lines[1]


def test_other_handlers_keep_their_form(tmp_path):
    logger = quiet_logger(tmp_path)
    assert sum(isinstance(one, logging.FileHandler) for one in logger.handlers) == 1
    for one in logger.handlers:
        assert bool([f for f in one.filters if type(f).__name__ == "ConsoleFilter"]) != isinstance(
            one, logging.FileHandler
        )
