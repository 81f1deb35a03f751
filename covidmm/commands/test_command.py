"""Evaluate a checkpoint on the test split of a config."""

from __future__ import annotations

import argparse

from covidmm.utils.lazy_imports import imports_that_stay


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", help="config file, such as configs/frcnn_x101_siim.py")
    parser.add_argument("checkpoint", help="checkpoint file, or a work dir, whose best checkpoint is taken")
    parser.add_argument("--work-dir", help="metrics.json and logs (default: work_dirs/<config name>)")
    parser.add_argument("--out", metavar="FILE.json", help="predictions as a COCO results list")
    parser.add_argument("--show-dir", metavar="DIR", help="one picture per image: truth and predictions")
    parser.add_argument(
        "--allow-training-images",
        action="store_true",
        help="score images that trained the checkpoint, too, and say so; otherwise that is an error",
    )
    parser.add_argument("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="overrides of the config")
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm"], default="none")
    parser.add_argument("--local-rank", "--local_rank", type=int, default=0, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> None:

    with imports_that_stay():
        from covidmm.jobs.train_test import evaluate

    evaluate(
        args.config,
        args.checkpoint,
        work_dir=args.work_dir,
        out=args.out,
        show_dir=args.show_dir,
        options=args.cfg_options,
        launcher=args.launcher,
        allow_training_images=args.allow_training_images,
    )
