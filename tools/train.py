#!/usr/bin/env python3
"""Train the model that a config describes."""

import _bootstrap  # noqa: F401

import argparse
import sys

from covidmm.utils.command_line import run_tool
from covidmm.utils.distributed import is_first
from covidmm.utils.lazy_imports import imports_that_stay


def main() -> None:
    parser = argparse.ArgumentParser(description=f"{__doc__} Research software, not a medical device.")
    parser.add_argument("config", help="config file, such as configs/frcnn_x101_siim.py")
    parser.add_argument("--work-dir", help="checkpoints and logs (default: work_dirs/<config name>)")
    parser.add_argument(
        "--resume",
        nargs="?",
        const=True,
        default=False,
        metavar="CKPT",
        help="resume from the last finished epoch in the work dir, or from this checkpoint",
    )
    parser.add_argument("--amp", action="store_true", help="float16 on CUDA, bfloat16 on a CPU with units for it")
    parser.add_argument("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="overrides of the config")
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm"], default="none")
    parser.add_argument("--local-rank", "--local_rank", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()

    with imports_that_stay():
        from covidmm.jobs.train_test import train

    folder = train(args.config, args.work_dir, args.resume, args.amp, args.cfg_options, args.launcher)
    if is_first():
        print(f"checkpoints and logs are in {folder}")


if __name__ == "__main__":
    sys.exit(run_tool(main, "run the same command again"))
