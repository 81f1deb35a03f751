#!/usr/bin/env python3
"""The main job from end to end on phantoms: make, prepare, train, test, draw. What ``make demo`` runs."""

import _bootstrap  # noqa: F401

import argparse
import json
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
    raw, prepared, out = (
        DATA / f"raw_{args.studies}_{args.seed}",
        DATA / f"prepared_{args.studies}_{args.seed}",
        args.out,
    )
    run_dir, predictions = out / "frcnn", out / "predictions_frcnn.json"
    os.environ["SIIM_ROOT"] = str(prepared)

    seconds = {
        "phantoms": call("prepare.py", "phantom", raw, "--studies", args.studies, "--seed", args.seed),
        "prepare": call("prepare.py", "siim", raw, prepared, "--max-size", 512),
        "train": call("train.py", CONFIG, "--work-dir", run_dir),
        "test": call("test.py", CONFIG, run_dir, "--work-dir", out, "--out", predictions),
    }
    from covidmm.evaluation.results import write_metrics
    from covidmm.reports.grid import draw_grid

    metrics = write_metrics(out / "metrics.json", seconds=seconds)
    threshold = metrics["detectors"]["frcnn"]["threshold"]
    draw_grid(
        prepared / "images",
        prepared / "annotations" / "test.json",
        json.loads(predictions.read_text()),
        out / "grid.png",
        threshold=threshold,
        title="Faster R-CNN on phantoms",
    )
    print(f"\nthe whole demo took {sum(seconds.values()):.0f} s; look at {out}/grid.png and {out}/metrics.json")


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
