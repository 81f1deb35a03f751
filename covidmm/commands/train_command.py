"""Train the model that a config describes, or those of several configs, and compare them."""

from __future__ import annotations

import argparse

from covidmm.errors import ConfigError
from covidmm.utils.distributed import is_first
from covidmm.utils.lazy_imports import imports_that_stay


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "config",
        nargs="+",
        help="config file, such as configs/frcnn_x101_siim.py; several are trained in turn and compared in a table",
    )
    parser.add_argument(
        "--work-dir",
        help="checkpoints and logs (default: work_dirs/<config name>); of several configs, the folder of their folders",
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const=True,
        default=False,
        metavar="CKPT",
        help="resume from the last finished epoch in the work dir, or from this checkpoint; of several configs, "
        "leave out what is finished and resume what is begun",
    )
    parser.add_argument("--amp", action="store_true", help="float16 on CUDA, bfloat16 on a CPU with units for it")
    parser.add_argument("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="overrides of the config")
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm"], default="none")
    parser.add_argument("--local-rank", "--local_rank", type=int, default=0, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> None:

    with imports_that_stay():
        from covidmm.jobs.train_test import train

    if len(args.config) > 1:
        if isinstance(args.resume, str):
            raise ConfigError("--resume CKPT belongs to one config, and several are named")
        with imports_that_stay():
            from covidmm.jobs.comparison import PICTURE, TABLE, train_and_compare

        folder = train_and_compare(args.config, args.work_dir, args.resume, args.amp, args.cfg_options, args.launcher)
        if is_first():
            print(f"comparison: {folder / TABLE}, {folder / PICTURE}")
        return
    folder = train(args.config[0], args.work_dir, args.resume, args.amp, args.cfg_options, args.launcher)
    if is_first():
        print(f"checkpoints and logs are in {folder}")
