"""The main job on phantoms: prepare, train, test, fuse, submit, score, draw, report. What ``make demo`` runs."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import time
from pathlib import Path

from covidmm.errors import CovidmmError
from covidmm.utils.command_line import command_line, shown_command

DATA = Path("data/demo")
MODELS = {
    "frcnn": "covidmm::phantom/frcnn_r18_phantom.py",
    "yolo": "covidmm::phantom/yolov5n_phantom.py",
    "study": "covidmm::phantom/study_r18_phantom.py",
}
PUBLISHED = {"frcnn": "frcnn_r18_siim", "yolo": "yolov5n_siim", "study": "study_r18_siim"}
ENSEMBLE = "covidmm::phantom/ensemble_wbf_phantom.py"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--studies", type=int, default=200, help="phantom studies to make (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("work_dirs/demo"))


def run(args: argparse.Namespace) -> None:
    started = time.monotonic()
    out, pictures = args.out, args.out / "pictures"
    raw, prepared = (DATA / f"{kind}_{args.studies}_{args.seed}" for kind in ("raw", "prepared"))
    os.environ["SIIM_ROOT"] = str(prepared)
    seconds = {
        "phantoms": call("prepare", "phantom", raw, "--studies", args.studies, "--seed", args.seed),
        "prepare": call("prepare", "siim", raw, prepared, "--max-size", 512),
    }
    seconds |= train_all(out)
    for name, config in MODELS.items():
        options = ("--work-dir", out, "--out", out / name / "predictions.json")
        call("test", config, out / name, *options, "--show-dir", pictures / name)
    publish(out)
    options = ("--predictions", out / "ensemble", "--out", out / "submission.csv", "--metrics", out / "metrics.json")
    pictured = ("--show-dir", pictures / "ensemble")
    seconds["ensemble"] = call("ensemble", ENSEMBLE, "--data", prepared, "--score", *options, *pictured)
    from covidmm.evaluation.metrics_file import write_metrics

    write_metrics(out / "metrics.json", seconds=seconds)
    from covidmm.reports.report_page import report

    page = report([out], [prepared], out)
    print(f"\nThe demo took {time.monotonic() - started:.0f} s. Look at {page}, at {pictures}/ensemble/grid.png,")
    print(f"{out}/submission.csv and {out}/metrics.json")


def publish(out: Path) -> None:
    """Put the models into the checkpoint store, under the names that the small configs start from.

    What another training has published there is left alone.
    """
    from covidmm.models.checkpoints import checkpoint_store

    for name, published in PUBLISHED.items():
        card = checkpoint_store() / f"{published}.json"
        if card.is_file() and "phantom" not in str(json.loads(card.read_text()).get("experiment")):
            print(f"{card}: not of a demo, left alone")
            continue
        call("publish", out / name, published, "--part", "model", "--replace")


def train_all(out: Path) -> dict[str, float]:
    """Train all models, one core each: so small a model gains little from more.

    The first one's progress is shown, the others' goes to ``train.log`` in their work dirs.
    """
    cores = os.cpu_count() or 1
    environment = os.environ | {"OMP_NUM_THREADS": str(max(1, cores // len(MODELS)))}
    shown = next(iter(MODELS))
    waiting, running = [*MODELS], {}
    seconds = {}
    try:
        while waiting or running:
            while waiting and len(running) < cores:
                name = waiting.pop(0)
                log = None if name == shown else out / name / "train.log"
                running[name] = (start_training(name, out / name, log, environment), time.monotonic())
            for name, (process, start) in list(running.items()):
                if process.poll() is not None:
                    del running[name]
                    seconds[f"train_{name}"] = time.monotonic() - start
                    require_success("train", process.returncode, "" if name == shown else out / name / "train.log")
            time.sleep(0.2)
    finally:
        for process, _ in running.values():
            process.terminate()
    return seconds


def start_training(name: str, work_dir: Path, log: Path | None, environment: dict[str, str]) -> subprocess.Popen:
    work_dir.mkdir(parents=True, exist_ok=True)
    arguments = [MODELS[name], "--work-dir", str(work_dir)]
    print(f"\n$ {shown_command('train')} {shlex.join(arguments)}{f' > {log}' if log else ''}", flush=True)
    command = [*command_line("train"), *arguments]
    output = log.open("w") if log else None
    return subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT if log else None)


def call(word: str, *arguments: object) -> float:
    """Run one of the commands as a person would, and return the seconds it took."""
    given = [str(one) for one in arguments]
    print(f"\n$ {shown_command(word)} {shlex.join(given)}", flush=True)
    start = time.monotonic()
    require_success(word, subprocess.run([*command_line(word), *given], check=False).returncode)
    return time.monotonic() - start


def require_success(word: str, code: int, log: Path | str = "") -> None:
    if code:
        raise CovidmmError(f"{shown_command(word)} ended with exit code {code}{f', see {log}' if log else ''}")
