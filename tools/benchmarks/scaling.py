"""Two processes of one thread each, on two cores, against one on one: training, preparing, predicting a folder."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks import dicom
from benchmarks.ensemble import with_weights
from benchmarks.networks import ROOT
from benchmarks.phantoms import ROOTS, prepare_phantoms
from covidmm.ensembles.ensemble_config import load_ensemble
from covidmm.errors import CovidmmError
from covidmm.phantom import write_phantoms

DISTRIBUTIONS = ("torch", "onedl-mmdetection", "onedl-mmengine")
#: What the two processes are promised to do of what one does.
PROMISED = {"train": 1.7, "prepare": 1.8, "inference": 1.8}
CONFIG = ROOT / "configs/small/frcnn_r18_siim.py"
ENSEMBLE = ROOT / "configs/small/ensemble_wbf_siim.py"
#: Seconds between two looks at what a tool has done.
_POLL = 0.01
_JOB = Callable[[Path, int], float]


@dataclass(frozen=True)
class Scaling:
    """One job. Images per second of one process and of two, and how many times more two do than one."""

    job: str
    ratio: float
    two: float
    one: float


def benchmark(images: int = 48, repeats: int = 5) -> dict[str, Any]:
    """Run each tool in one process and in two, of one thread each, and time what happens between its start and its end.

    A run of one process is held to one core, one of two to two: what a tool does beside its thread (decoding ahead,
    handing out jobs) would otherwise take place on a core that the one process is not said to have.

    Loading, which does not grow with the work, is left out: the rate is the median over the iterations of a training
    (Faster R-CNN ResNet-18, 8 images of 256 px, no loading process beside it), over each 16 images of `prepare` (12
    bit, 2800 x 3000), and over each 16 images of `ensemble` (Faster R-CNN ResNet-18 and YOLOv5-n of random weights, a
    folder of phantoms), after the first of them.

    Args:
        images: of each folder; the training has half as many, and one epoch.
        repeats: runs of each, one process and two in turn.

    Returns:
        ``scalings``, each a :class:`Scaling` as a dict with the median ratio of the repeats.

    Raises:
        CovidmmError: a tool fails.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = [_scaling(job, rate, folder, repeats) for job, rate in _jobs(folder, images)]
    return {
        "images": images,
        "repeats": repeats,
        "scalings": [asdict(one) for one in found],
    }


def format_report(report: dict[str, Any]) -> str:
    """A table for people, ratio first."""
    lines = [f"{'ratio':>6} {'promised':>9} {'two /s':>8} {'one /s':>8} job"]
    for one in report["scalings"]:
        rates = f"{one['two']:>8.2f} {one['one']:>8.2f}"
        lines.append(f"{one['ratio']:>6.2f} {PROMISED[one['job']]:>9.1f} {rates} {one['job']}")
    return "\n".join([*lines, "images per second; two processes of one thread on two cores, one on one"])


def _scaling(job: str, rate: _JOB, folder: Path, repeats: int) -> Scaling:
    pairs = [(rate(folder / "out", 1), rate(folder / "out", 2)) for _ in range(repeats)]
    one, two = map(statistics.median, zip(*pairs, strict=True))
    return Scaling(job, statistics.median(b / a for a, b in pairs), two, one)


def _jobs(folder: Path, images: int) -> Iterator[tuple[str, _JOB]]:
    """Make what each job needs; its rate, images per second, is a function of an output folder and some processes."""
    prepared = prepare_phantoms(folder / "phantoms", studies=images, side=256)
    yield "train", lambda out, count: _train(prepared, out, count)
    raw = _many_dicoms(folder / "dicom", images)
    yield "prepare", lambda out, count: _prepare(raw, out, count)
    options = _random_members(folder)
    yield "inference", lambda out, count: _infer(folder / "phantoms/raw", options, out, count)


def _train(prepared: Path, out: Path, count: int) -> float:
    options = ["train_cfg.max_epochs=1", "train_dataloader.num_workers=0", "val_cfg=None"]
    options += ["val_dataloader=None", "val_evaluator=None"]
    options += ["default_hooks.logger.interval=1", "log_processor.window_size=1"]  # each iteration's own seconds
    command = [*_launched("tools/train.py", count), CONFIG, "--work-dir", out, "--cfg-options", *options]
    _run(command, count, out, lambda: 0, dict.fromkeys(ROOTS, str(prepared)))
    (log,) = out.rglob("vis_data/scalars.json")
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    seconds = [row["time"] for row in rows if "loss" in row]
    return 8 / statistics.median(seconds[1:])


def _prepare(raw: Path, out: Path, count: int) -> float:
    command = [sys.executable, "tools/prepare.py", "siim", raw, out, "--workers", count]
    return _rate(command, count, out, 16, lambda: _lines(out / ".journal/images.jsonl"))


def _infer(images: Path, options: list[str], out: Path, count: int) -> float:
    command = [*_launched("tools/ensemble.py", count), ENSEMBLE, "--data", images, "--predictions", out]
    command += ["--cfg-options", *options]
    return _rate(command, count, out, 16, lambda: 8 * (_lines(out / "train/yolo.part") - 1))


def _rate(command: list[Any], count: int, out: Path, step: int, done: Callable[[], int]) -> float:
    """Images per second, from the median time that some of them take, after the first of them."""
    moments: list[float] = []

    def look() -> None:
        if done() >= step * (len(moments) + 1):
            moments.append(time.perf_counter())

    _run(command, count, out, look, {})
    return step / statistics.median(after - before for before, after in pairwise(moments))


def _run(command: list[Any], count: int, out: Path, look: Callable[[], Any], variables: dict[str, str]) -> None:
    """Run a tool into an empty folder, on so many cores, and look at it again and again."""
    shutil.rmtree(out, ignore_errors=True)
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | variables
    with tempfile.TemporaryFile("w+") as words:
        with _cores(count):
            process = subprocess.Popen(list(map(str, command)), cwd=ROOT, env=environment, stdout=words, stderr=words)
        try:
            while process.poll() is None:
                look()
                time.sleep(_POLL)
        finally:
            process.terminate()
            process.wait()
        words.seek(0)
        if process.returncode:
            said = [line.strip() for line in words if "rror: " in line]
            raise CovidmmError(f"{' '.join(map(str, command))} ended with {process.returncode}: {' '.join(said[:1])}")


@contextmanager
def _cores(count: int) -> Iterator[None]:
    """Let processes that are started meanwhile have so many cores, where the system can."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _launched(tool: str, count: int) -> list[str]:
    """One process started directly, several by torchrun."""
    if count == 1:
        return [sys.executable, tool]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"]
    return [*torchrun, tool, "--launcher", "pytorch"]


def _lines(file: Path) -> int:
    try:
        return file.read_bytes().count(b"\n")
    except FileNotFoundError:  # not yet, or no longer
        return 0


def _many_dicoms(raw: Path, count: int) -> Path:
    """A SIIM folder of one file under many names."""
    write_phantoms(raw, count, seed=0, size=(128, 128))
    dicom.write_file(raw / "one.dcm", dicom.chest_like(2800, 3000), {})
    for file in sorted((raw / "train").rglob("*.dcm")):
        file.unlink()
        file.hardlink_to(raw / "one.dcm")
    return raw


def _random_members(folder: Path) -> list[str]:
    """Overrides that give the ensemble's members random weights."""
    members, _ = with_weights(load_ensemble(ENSEMBLE).members, False, folder)
    weights = [f"members.{name}.checkpoint={member.checkpoint}" for name, member in members.items()]
    return [*weights, "study=None", "none.rule=no_box"]
