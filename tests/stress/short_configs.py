"""Two training iterations of each experiment of a dozen lines: ``python -m tests.stress.short_configs PHANTOMS``."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

import covidmm.registration  # noqa: F401
from covidmm.engine.config import load_config
from covidmm.jobs.train_test import train
from covidmm.utils.command_line import run_tool
from tests.helpers.short_configs import FAMILIES, short_config

#: Keys of transforms and batch augmentations that hold sides in pixels, and what they are divided by; chosen here.
SIDES = ("scale", "scales", "img_scale", "crop_size", "size", "random_size_range", "border")
SHRINK = 2


def smaller(value: Any, key: str = "") -> Any:
    """A config whose images have half their sides, so that two cores are enough."""
    if isinstance(value, dict):
        return {name: smaller(one, name) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(smaller(one, key) for one in value)
    return value // SHRINK if key in SIDES and isinstance(value, int) else value


def prepared(name: str, folder: Path) -> Path:
    """Write an experiment with smaller images, four of them to train on, as a file of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    short = folder / "experiment.py"
    short.write_text(short_config(name))
    cfg = load_config(short)
    for split, images in (("train", 4), ("val", 2), ("test", 2)):
        loader = cfg[f"{split}_dataloader"]
        loader.update(num_workers=0, persistent_workers=False)
        dataset = loader.dataset
        while "dataset" in dataset:
            dataset.pop("times", None)
            if dataset.type.endswith("RepeatDataset"):
                dataset.times = 1
            dataset = dataset.dataset
        dataset.indices = images
    cfg.train_cfg.update(max_epochs=1, val_interval=1)
    file = folder / "smaller.py"
    Config(smaller(cfg.to_dict())).dump(file)
    return file


def main() -> int:
    """Train the chosen families, or all, and print what became of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="a prepared folder of phantoms")
    parser.add_argument("names", nargs="*", help="families; all by default")
    parser.add_argument("--out", type=Path, default=Path("work_dirs/short_configs"))
    args = parser.parse_args()
    os.environ["SIIM_ROOT"] = str(args.data.resolve())
    return report([name for name in FAMILIES if not args.names or name.split("/")[0] in args.names], args.out)


def report(names: Sequence[str], out: Path) -> int:
    failed = 0
    for name in names:
        folder, started = out / name.replace("/", "_"), time.monotonic()
        try:
            train(prepared(name, folder), folder / "run")
            said = "ok"
        except Exception as error:  # any failure of a family is a finding
            failed += 1
            said = f"{type(error).__name__}: {str(error).strip().splitlines()[-1][:200]}"
        lines = len(short_config(name).splitlines())
        print(f"{name}: {lines} lines, {time.monotonic() - started:.0f} s, {said}", flush=True)
    print(f"{len(names) - failed} of {len(names)} trained")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(run_tool(main))
