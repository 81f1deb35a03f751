"""The tiny jobs that faults are put into: one per tool, and what their results must be.

Phantoms only: nothing that these jobs measure says anything about patients.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

import covidmm.registration  # noqa: F401
from covidmm.engine.config import load_config
from covidmm.phantom import write_phantoms
from tests.helpers.tool_runs import ROOT, Command, Ended, ForkServer

EPOCHS = 3
SIDE = 64
# a YOLOv5 of two million weights: mosaic, mixup, warm-up and averaged weights are what a resume could lose
DETECTOR = "configs/phantom/yolov5n_phantom.py"
TRAINING = (
    f"train_cfg.max_epochs={EPOCHS}",
    "train_cfg.val_interval=1",
    *(f"train_dataloader.dataset.pipeline.{at}0.img_scale=({SIDE},{SIDE})" for at in ("", "2.pre_transform.")),
    *(f"train_dataloader.dataset.pipeline.{at}1.border=({-SIDE // 2},{-SIDE // 2})" for at in ("", "2.pre_transform.")),
    *(f"{split}_dataloader.dataset.pipeline.2.scale=({SIDE},{SIDE})" for split in ("val", "test")),
    *(f"{split}_dataloader.dataset.pipeline.3.size=({SIDE},{SIDE})" for split in ("val", "test")),
    "model.test_cfg.score_thr=0.0",
    "model.test_cfg.max_per_img=20",
)
UNFINISHED = (".tmp", ".part", ".lock")


@dataclass(frozen=True)
class Workload:
    """A tool's job.

    Attributes:
        name: of the tool.
        command: what a user types, given the output folder.
        again: what a user types after a fault.
        results: name of every result in an output folder -> its content, without dates and seconds.
        grows: results that are written more than once in a run, so that a part of them is whole too.
        keep_all: what leaves the results, too, that a run removes again; None where it removes none.
    """

    name: str
    command: Callable[[Path], Command]
    again: Callable[[Path], Command]
    results: Callable[[Path], dict[str, str]]
    grows: tuple[str, ...] = ()
    keep_all: Callable[[Path], Command] | None = None


@dataclass(frozen=True)
class Undisturbed:
    """A run in peace.

    Attributes:
        seconds: that it took.
        events: how often it changed a file.
        largest: bytes of the largest file.
        bytes: of all files.
        results: what it left.
        versions: of every result; more than one, or one that is not left, where a run replaces or removes it.
    """

    seconds: float
    events: int
    largest: int
    bytes: int
    results: dict[str, str]
    versions: dict[str, tuple[str, ...]]


class Bench:
    """Every tool's job, each run once in peace; the outputs of one are inputs of the next.

    Args:
        folder: for all that.
        server: starts the tools.
    """

    def __init__(self, folder: Path, server: ForkServer) -> None:
        self.server = server
        self.workloads: dict[str, Workload] = {}
        self.undisturbed: dict[str, Undisturbed] = {}
        self.folder = folder
        write_phantoms(folder / "raw", studies=24, seed=3, size=(128, 160), workers=1)
        prepared = self._add(_prepare(folder / "raw"))
        trained = self._add(_train())
        tested = self._add(_test(trained))
        fused = self._add(_ensemble(folder, trained, prepared))
        self._add(_report([trained, tested, fused / "predictions"], prepared))

    def run(self, command: Command, **more: Any) -> Ended:
        """Run a tool on the prepared phantoms, see :meth:`ForkServer.start`."""
        return self.server.run(command, env={"SIIM_ROOT": str(self.folder / "prepare")}, **more)

    def _add(self, job: Workload) -> Path:
        out = self.folder / job.name
        ended = self._whole(job.command(out), folder=str(out))
        results = job.results(out)
        versions = {name: (content,) for name, content in results.items()}
        if job.keep_all is not None:
            everything = self.folder / f"{job.name}_everything"
            self._whole(job.keep_all(everything))
            kept = job.results(everything)
            assert results.items() <= kept.items(), "two undisturbed runs differ"
            versions = {name: (content,) for name, content in kept.items()}
        sizes = [path.stat().st_size for path in out.rglob("*") if path.is_file()]
        self.workloads[job.name] = job
        self.undisturbed[job.name] = Undisturbed(
            ended.seconds, len(ended.events), max(sizes), sum(sizes), results, versions
        )
        return out

    def _whole(self, command: Command, **watch: Any) -> Ended:
        ended = self.run(command, **watch)
        assert ended.code == 0, ended.output[-4000:]
        return ended


def _same_command(name: str, command: Callable[[Path], Command], *, grows: tuple[str, ...] = ()) -> Workload:
    return Workload(name, command, command, file_results, grows)


def _prepare(raw: Path) -> Workload:
    def command(out: Path) -> Command:
        return Command("prepare.py", ("siim", str(raw), str(out), "--workers", "2"))

    return _same_command("prepare", command)


def _train() -> Workload:
    def command(out: Path) -> Command:
        return Command("train.py", (DETECTOR, "--work-dir", str(out), "--cfg-options", *TRAINING))

    def again(out: Path) -> Command:
        fresh = command(out)
        if not list(out.glob("epoch_*.pth")):
            return fresh
        return Command(fresh.tool, (DETECTOR, "--resume", *fresh.arguments[1:]))

    def keep_all(out: Path) -> Command:
        fresh = command(out)
        options = (f"default_hooks.checkpoint.max_keep_ckpts={EPOCHS}",)
        return Command(fresh.tool, (*fresh.arguments, *options))

    return Workload("train", command, again, checkpoint_results, keep_all=keep_all)


def _test(trained: Path) -> Workload:
    def command(out: Path) -> Command:
        arguments = (DETECTOR, str(trained), "--work-dir", str(out), "--show-dir", str(out / "pictures"))
        return Command("test.py", (*arguments, "--cfg-options", *TRAINING))

    return _same_command("test", command)


def _ensemble(folder: Path, trained: Path, prepared: Path) -> Workload:
    config = folder / "ensemble.py"
    config.write_text(_ensemble_config(folder, trained))

    def command(out: Path) -> Command:
        arguments = (str(config), "--data", str(prepared), "--predictions", str(out / "predictions"))
        return Command("ensemble.py", (*arguments, "--score", "--show-dir", str(out / "pictures")))

    return _same_command("ensemble", command, grows=("predictions/operating.json",))


def _ensemble_config(folder: Path, trained: Path) -> str:
    """An ensemble of the trained detector with a Faster R-CNN and a study classifier of random weights."""
    init_default_scope("mmdet")
    MMLogger.get_instance("covidmm", log_level="WARNING")  # else MMEngine tells how it fills every weight
    for name in ("frcnn_r18", "study_r18"):
        torch.manual_seed(0)
        model = MODELS.build(load_config(ROOT / f"configs/phantom/{name}_phantom.py").model)
        model.init_weights()
        torch.save({"state_dict": model.state_dict()}, folder / f"{name}.pth")
    return (
        f"_base_ = '{ROOT}/configs/phantom/ensemble_wbf_phantom.py'\n"
        "batch_size = 1\n"
        f"members = dict(yolo=dict(checkpoint='{trained}'), frcnn=dict(checkpoint='{folder}/frcnn_r18.pth'))\n"
        f"study = dict(checkpoint='{folder}/study_r18.pth')\n"
    )


def _report(runs: list[Path], prepared: Path) -> Workload:
    def command(out: Path) -> Command:
        return Command("report.py", (*map(str, runs), "--data", str(prepared), "--out", str(out)))

    return _same_command("report", command)


def files_of(out: Path) -> Iterator[Path]:
    """The results in an output folder: no logs, and nothing that says by its name that it is not finished."""
    for path in sorted(out.rglob("*")):
        inner = path.relative_to(out).parts
        # MMEngine's logs, in a folder named by the date and beside it: no run resumes from them
        notes = inner[0].startswith("20") or path.name in ("last_checkpoint", Path(DETECTOR).name)
        if path.is_file() and not notes and inner[0] != ".journal" and path.suffix not in (".pth", *UNFINISHED):
            yield path


def file_results(out: Path) -> dict[str, str]:
    """The digest of every file, without the seconds that ``metrics.json`` and the date that a report tells."""
    return {path.relative_to(out).as_posix(): _digest(_undated(path)) for path in files_of(out)}


def _undated(path: Path) -> bytes:
    data = path.read_bytes()
    if path.name == "metrics.json" or path.name.endswith(".provenance.json"):
        content = json.loads(data)
        content.pop("seconds", None)
        for origin in content.get("provenance", {"": content}).values():
            origin.pop("git_revision", None)  # somebody may commit while a long run is under way
        return json.dumps(content, sort_keys=True).encode()
    if path.suffix == ".html":
        return re.sub(rb"\d{4}-\d\d-\d\d \d\d:\d\d UTC", b"", data)
    return data


def checkpoint_results(out: Path) -> dict[str, str]:
    """The digest of every checkpoint: its weights, their averages, the optimizer, and the validation's metrics."""
    return {path.name: checkpoint_digest(path.read_bytes()) for path in sorted(out.glob("*.pth"))}


def checkpoint_digest(data: bytes) -> str:
    """The digest of a checkpoint's content; dates and seconds, which its log history holds, aside."""
    content = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    kept = {key: value for key, value in content.items() if key not in ("message_hub", "meta")}
    kept["val_metrics"] = content["meta"]["val_metrics"]
    digest = hashlib.sha256()
    _feed(digest, kept)
    return digest.hexdigest()


def _feed(digest: Any, value: Any) -> None:
    if isinstance(value, dict):
        for key in sorted(value, key=str):
            digest.update(f"{key}:".encode())
            _feed(digest, value[key])
    elif isinstance(value, list | tuple):
        for item in value:
            _feed(digest, item)
    elif isinstance(value, torch.Tensor):
        digest.update(f"{value.dtype} {tuple(value.shape)}".encode() + value.contiguous().numpy().tobytes())
    else:
        digest.update(f"{value!r};".encode())


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
