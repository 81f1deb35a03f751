#!/usr/bin/env python3
"""The main job from end to end on phantoms: make, prepare, train, test, draw. What ``make demo`` runs."""

import _bootstrap  # noqa: F401

import argparse
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

from covidmm.errors import CovidmmError, run_tool

TOOLS = Path(__file__).resolve().parent
DATA = Path("data/demo")
CONFIG = "configs/phantom/frcnn_r18_phantom.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=f"{__doc__} Research software, not a medical device.")
    parser.add_argument("--studies", type=int, default=200, help="phantom studies to make (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("work_dirs/demo"))
    args = parser.parse_args()
    raw, prepared = (DATA / f"{kind}_{args.studies}_{args.seed}" for kind in ("raw", "prepared"))
    run_dir, pictures = args.out / "frcnn", args.out / "pictures"
    os.environ["SIIM_ROOT"] = str(prepared)
    seconds = {
        "phantoms": call("prepare.py", "phantom", raw, "--studies", args.studies, "--seed", args.seed),
        "prepare": call("prepare.py", "siim", raw, prepared, "--max-size", 512),
        "train": call("train.py", CONFIG, "--work-dir", run_dir),
        "test": call("test.py", CONFIG, run_dir, "--work-dir", args.out, "--show-dir", pictures),
    }
    from covidmm.evaluation.results import write_metrics

    write_metrics(args.out / "metrics.json", seconds=seconds)
    print(f"\nThe demo took {sum(seconds.values()):.0f} s. Look at {pictures}/grid.png and {args.out}/metrics.json")


def call(tool: str, *arguments: object) -> float:
    """Run one of the tools as a person would, and return the seconds it took."""
    command = [sys.executable, str(TOOLS / tool), *map(str, arguments)]
    print(f"\n$ tools/{tool} {shlex.join(command[2:])}", flush=True)
    start = time.monotonic()
    code = subprocess.run(command, check=False).returncode
    if code:
        raise CovidmmError(f"tools/{tool} ended with exit code {code}")
    return time.monotonic() - start


if __name__ == "__main__":
    sys.exit(run_tool(main))
