"""The schedules of a config, built by MMEngine's runner for a data set of a fixed length."""

import logging
from types import SimpleNamespace

import torch
from mmengine.registry import init_default_scope
from mmengine.runner import EpochBasedTrainLoop, Runner

import covidmm.registration  # noqa: F401 - registers the schedulers

EPOCH = 500  # iterations of an epoch


class Loop(EpochBasedTrainLoop):
    def __init__(self):
        pass


def built_schedules(cfg):
    """The optimizer, and the schedulers of a config."""
    init_default_scope("mmdet")
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "name": name} for name in ("weight", "norm", "bias")]
    optimizer = torch.optim.SGD(groups, lr=cfg.optim_wrapper.optimizer.lr, momentum=0.9)
    epochs = cfg.train_cfg.max_epochs
    runner = SimpleNamespace(
        _train_loop=Loop(),
        max_epochs=epochs,
        max_iters=epochs * EPOCH,
        logger=logging.getLogger("schedules"),
        train_dataloader=range(EPOCH),
    )
    return optimizer, Runner._build_param_scheduler(runner, cfg.get("param_scheduler") or [], optimizer)


def rates(cfg):
    """The learning rate of the weights at the start of each epoch."""
    optimizer, schedulers = built_schedules(cfg)
    optimizer.step()
    found, whole = [], [one for one in schedulers if one.by_epoch]
    for _ in range(cfg.train_cfg.max_epochs):
        found.append(optimizer.param_groups[0]["lr"])
        warming = [one for one in schedulers if not one.by_epoch and one._global_step < one.end]
        for _ in range(EPOCH if warming else 0):
            for one in warming:
                one.step()
        for one in whole:
            one.step()
    return found
