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
DETECTORS = {"frcnn": "configs/phantom/frcnn_r18_phantom.py", "yolo": "configs/phantom/yolov5n_phantom.py"}


def main() -> None:
    parser = argparse.ArgumentParser(description=f"{__doc__} Research software, not a medical device.")
    parser.add_argument("--studies", type=int, default=200, help="phantom studies to make (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("work_dirs/demo"))
    args = parser.parse_args()
    started = time.monotonic()
    raw, prepared = (DATA / f"{kind}_{args.studies}_{args.seed}" for kind in ("raw", "prepared"))
    pictures = args.out / "pictures"
    os.environ["SIIM_ROOT"] = str(prepared)
    seconds = {
        "phantoms": call("prepare.py", "phantom", raw, "--studies", args.studies, "--seed", args.seed),
        "prepare": call("prepare.py", "siim", raw, prepared, "--max-size", 512),
    }
    for name, config in DETECTORS.items():
        run_dir = args.out / name
        seconds[f"train_{name}"] = call("train.py", config, "--work-dir", run_dir)
        options = ("--work-dir", args.out, "--out", run_dir / "predictions.json", "--show-dir", pictures / name)
        call("test.py", config, run_dir, *options)
    from covidmm.evaluation.results import format_table, write_metrics

    metrics = write_metrics(args.out / "metrics.json", seconds=seconds)
    print(f"\nThe demo took {time.monotonic() - started:.0f} s. On the phantoms held out:")
    print(format_table(metrics["detectors"]))
    print(f"Look at {' and '.join(f'{pictures}/{name}/grid.png' for name in DETECTORS)}, and {args.out}/metrics.json")


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
