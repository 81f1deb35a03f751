#!/usr/bin/env python3
"""Put the weights of a finished training into the checkpoint store, where configs find them by name."""

import _bootstrap  # noqa: F401

import argparse
import sys
from pathlib import Path

from covidmm.utils.command_line import run_tool


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        description=__doc__, epilog="The store is COVIDMM_CHECKPOINTS, or checkpoints/ in the current folder."
    )
    top.add_argument("checkpoint", type=Path, help="a checkpoint, or a work dir, whose best one is taken")
    top.add_argument("name", help="its name in configs: covidmm://NAME")
    top.add_argument("--part", choices=("backbone", "model"), default="backbone", help="default: %(default)s")
    top.add_argument("--replace", action="store_true", help="overwrite other weights of that name")
    return top


def main() -> None:
    arguments = vars(parser().parse_args())
    from covidmm.engine.checkpointing import best_checkpoint
    from covidmm.models.publishing import publish

    if arguments["checkpoint"].is_dir():
        arguments["checkpoint"] = best_checkpoint(arguments["checkpoint"])
    print("\n".join(publish(**arguments)))


if __name__ == "__main__":
    sys.exit(run_tool(main))
