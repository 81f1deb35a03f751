"""Seconds that ``--help`` of each tool takes, and those until the first training iteration."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.phantoms import ROOTS, prepare_phantoms
from covidmm.errors import CovidmmError

DISTRIBUTIONS = ("torch", "onedl-mmdetection", "onedl-mmengine")
_ROOT = Path(__file__).parents[2]
#: The training whose start is timed by default.
CONFIG = _ROOT / "configs/small/frcnn_r18_siim.py"
#: What is logged when an iteration is over.
_ITERATION = re.compile(r"Epoch\(train\)\s+\[1\]\[\s*1/")


def benchmark(config: str | Path = CONFIG, repeats: int = 5) -> dict[str, Any]:
    """Time ``--help`` of every tool, and a training from its command to the end of its first iteration.

    The page cache is warm: each command runs once before its timed runs.

    Args:
        config: of the training; phantoms stand for its data set.
        repeats: timed runs, of which the median.

    Returns:
        ``help_seconds`` by tool, and ``first_iteration_seconds``.

    Raises:
        CovidmmError: a tool or the training fails.
    """
    tools = sorted(path for path in (_ROOT / "tools").glob("*.py") if not path.name.startswith("_"))
    helps = {tool.name: _median([_help(tool) for _ in range(repeats + 1)]) for tool in tools}
    with tempfile.TemporaryDirectory() as folder:
        prepared = prepare_phantoms(Path(folder), studies=20, side=256)
        starts = [_first_iteration(str(config), prepared, Path(folder) / "run") for _ in range(repeats + 1)]
    return {
        "config": str(config),
        "repeats": repeats,
        "help_seconds": helps,
        "first_iteration_seconds": _median(starts),
    }


def format_report(report: dict[str, Any]) -> str:
    """A table for people."""
    lines = [f"{'seconds':>8} command"]
    lines += [f"{seconds:>8.2f} tools/{tool} --help" for tool, seconds in report["help_seconds"].items()]
    name = Path(report["config"]).name
    return "\n".join([*lines, f"{report['first_iteration_seconds']:>8.2f} tools/train.py {name}, first iteration over"])


def _median(seconds: list[float]) -> float:
    return statistics.median(seconds[1:])


def _help(tool: Path) -> float:
    start = time.perf_counter()
    done = subprocess.run([sys.executable, str(tool), "--help"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CovidmmError(f"{tool.name} --help ended with {done.returncode}: {done.stderr.strip()}")
    return time.perf_counter() - start


def _first_iteration(config: str, prepared: Path, work_dir: Path) -> float:
    command = [sys.executable, str(_ROOT / "tools/train.py"), config, "--work-dir", str(work_dir)]
    command += ["--cfg-options", "default_hooks.logger.interval=1", "train_cfg.max_epochs=1"]
    environment = os.environ | dict.fromkeys(ROOTS, str(prepared))
    start = time.perf_counter()
    with (work_dir.parent / "shown").open("w+") as shown:
        with subprocess.Popen(command, env=environment, stdout=shown, stderr=subprocess.STDOUT) as process:
            try:
                while process.poll() is None:
                    # the console has a line for each epoch alone
                    if any(_ITERATION.search(path.read_text()) for path in work_dir.glob("*/*.log")):
                        return time.perf_counter() - start
                    time.sleep(0.01)
            finally:
                process.terminate()
        shown.seek(0)
        said = shown.read().strip().splitlines()
    raise CovidmmError(f"the training of {config} ended before its first iteration: {said[-1] if said else ''}")
