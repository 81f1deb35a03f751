"""Runs of several processes: join them, divide a config's work among them, and notice when one dies.

PyTorch and ``mmengine.dist`` are imported inside functions: an ensemble of ready predictions runs in one process and
needs neither.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from covidmm.errors import ClusterError, ConfigError
from covidmm.utils.distributed import is_first, under_torchrun

if TYPE_CHECKING:
    from mmengine.config import Config

#: Environment variables that torchrun sets for each of its processes.
_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@contextmanager
def launched(launcher: str, objects_only: bool = False, patience: timedelta | None = None) -> Iterator[None]:
    """Join the other processes for the length of a block: by gloo on CPUs, by NCCL on GPUs. A nested one does nothing.

    Args:
        launcher: ``none`` for a run of one process, ``pytorch`` under torchrun; ``slurm`` is left to MMEngine.
        objects_only: the block sends no tensors of models, only small objects: gloo, on GPUs too.
        patience: how long a process waits for another one that is alive; PyTorch's default where None.

    Raises:
        ConfigError: the processes were not started by torchrun, there are more of them than GPUs, or torchrun started
            some for a run of one process.
        ClusterError: another process could not be reached, or died meanwhile.
    """
    if launcher == "none":
        if under_torchrun() and os.environ.get("WORLD_SIZE", "1") != "1":
            raise ConfigError("torchrun without --launcher pytorch: every process would do the whole work")
        yield
        return
    import torch

    if torch.distributed.is_initialized():  # a second group would meet the first one's keys in torchrun's store
        yield
        return
    _check(launcher)
    try:
        _join(launcher, objects_only, patience)
        with _first_prints():
            yield
    except RuntimeError as error:
        if not _lost_another(error):
            raise
        raise ClusterError("another process of this run has ended, and this one with it") from None
    torch.distributed.destroy_process_group()


def share_out(cfg: Config, trains: bool) -> None:
    """Divide the work of a config, written for one process, among the processes of this run.

    The config's batch size is the total: each process takes its part, so that the steps, the learning rate and the
    samples of each batch are those of one process. Each image is evaluated once, and predictions reach the first
    process as messages, not files.

    Args:
        cfg: changed in place; a run of one process leaves it alone.
        trains: whether the run trains.

    Raises:
        ConfigError: the batch cannot be divided among the processes.
    """
    from mmengine.dist import get_world_size, is_distributed

    if not is_distributed():
        return
    count, batch = get_world_size(), cfg.train_dataloader.batch_size
    if trains and batch % count:
        raise ConfigError(
            f"train_dataloader.batch_size is {batch}, which {count} processes cannot share evenly; "
            f"--cfg-options train_dataloader.batch_size={-(-batch // count) * count} fits"
        )
    cfg.train_dataloader.batch_size = max(1, batch // count)
    for name in ("val_evaluator", "test_evaluator"):
        evaluators = cfg.get(name) or []
        for metric in evaluators if isinstance(evaluators, list | tuple) else [evaluators]:
            # MMEngine's name for sending objects, which works without a GPU too; 'cpu' writes files into ./.dist_test
            metric.collect_device = "gpu"
    cfg.model_wrapper_cfg = {
        "type": "MMDistributedDataParallel",
        "device_ids": None,  # of the module's own parameters; a model on a CPU allows no other
        "broadcast_buffers": False,
        "find_unused_parameters": cfg.get("find_unused_parameters", False),
    }
    # last, so that it sees the averaged weights where another hook has put them into the model
    cfg.custom_hooks = [*(cfg.get("custom_hooks") or ()), {"type": "SharedBuffersHook"}]


def _check(launcher: str) -> None:
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if launcher == "slurm":
        if not gpus:
            raise ConfigError("--launcher slurm needs GPUs: on CPUs use `srun torchrun ...` and --launcher pytorch")
        return
    missing = [name for name in _VARIABLES if name not in os.environ]
    if missing:
        raise ConfigError(
            f"--launcher pytorch: {missing[0]} is not set; start with `torchrun --nproc_per_node N tools/...`"
        )
    if gpus and int(os.environ["LOCAL_RANK"]) >= gpus:
        raise ConfigError(f"torchrun --nproc_per_node: more processes than this machine has GPUs, {gpus}")


def _join(launcher: str, objects_only: bool, patience: timedelta | None) -> None:
    import torch

    gpu = torch.cuda.is_available()
    backend = "nccl" if gpu and not objects_only else "gloo"
    if launcher == "slurm":
        from mmengine.dist import init_dist

        init_dist("slurm", backend)
        return
    if gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # MMEngine's own set-up selects a CUDA device whatever the backend.
    torch.distributed.init_process_group(backend, timeout=patience)


@contextmanager
def _first_prints() -> Iterator[None]:
    """Silence stdout in all processes but the first; all of them may write errors to stderr."""
    if is_first():
        yield
        return
    with Path(os.devnull).open("w") as nothing, redirect_stdout(nothing):
        yield


def _lost_another(error: RuntimeError) -> bool:
    """Whether an error of PyTorch's means that another process is gone."""
    import torch

    return isinstance(error, torch.distributed.DistError) or "gloo/transport" in str(error)
