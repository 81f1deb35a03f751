"""Put the weights of a finished training into the checkpoint store, where configs find them by name."""

from __future__ import annotations

import argparse
from pathlib import Path

EPILOG = (
    "The store is COVIDMM_CHECKPOINTS, else checkpoints/ of the working directory or its project, else one in the "
    "user's cache."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, help="a checkpoint, or a work dir, whose best one is taken")
    parser.add_argument("name", help="its name in configs: covidmm://NAME")
    parser.add_argument("--part", choices=("backbone", "model"), default="backbone", help="default: %(default)s")
    parser.add_argument("--replace", action="store_true", help="overwrite other weights of that name")


def run(args: argparse.Namespace) -> None:
    arguments = vars(args)
    from covidmm.engine.checkpointing import best_checkpoint
    from covidmm.models.publishing import publish

    if arguments["checkpoint"].is_dir():
        arguments["checkpoint"] = best_checkpoint(arguments["checkpoint"])
    print("\n".join(publish(**arguments)))
