"""Train several configs one after the other, and compare their validations in one table and one picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from covidmm.engine.checkpointing import checkpoints_in
from covidmm.engine.config import load_config
from covidmm.engine.launch import launched
from covidmm.errors import CheckpointError, ConfigError, CovidmmError, TrainingError
from covidmm.jobs.train_test import train
from covidmm.reports.figures.png_figures import draw_losses
from covidmm.reports.runs import find_runs
from covidmm.utils.csv_tables import csv_bytes
from covidmm.utils.distributed import is_first
from covidmm.utils.fileio import write_bytes
from covidmm.utils.packaged_configs import config_path

TABLE, PICTURE = "comparison.csv", "comparison.png"
#: Of a validation, in this order, whatever its prefix.
_METRICS = {"accuracy": "accuracy", "F1": "f1", "mAP": "mAP", "mAP@.50": "mAP_50"}


def train_and_compare(
    configs: Sequence[str | Path],
    work_dir: str | Path | None = None,
    resume: bool = False,
    amp: bool = False,
    options: Sequence[str] = (),
    launcher: str = "none",
) -> Path:
    """Train each config into a folder of its name, then write and print the comparison.

    A config that fails does not stop the others; the comparison is written after each training.

    Args:
        configs: config files, of different names.
        work_dir: the folder of those folders; ``work_dirs`` by default.
        resume: leave out what is finished, resume what is begun, and start the rest.
        amp: as :func:`covidmm.jobs.train_test.train`, and so are ``options``, for each config, and ``launcher``.
        options: overrides.
        launcher: of the processes.

    Returns:
        ``work_dir``, with ``comparison.csv`` and ``comparison.png``.

    Raises:
        ConfigError: two configs of one name, or a bad one, before the first training.
        TrainingError: some could not be trained; the others are in the table.
        KeyboardInterrupt: as :func:`covidmm.jobs.train_test.train`.
    """
    names = [config_path(config).stem for config in configs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"{twice}: two configs of that name, each needs a folder of its own")
    folder = Path(work_dir or "work_dirs")
    lasts = [_last_checkpoint(load_config(config, options).train_cfg) for config in configs]
    failed = {}
    with launched(launcher):
        for config, name, last in zip(configs, names, lasts, strict=True):
            begun = resume and bool(checkpoints_in(folder / name))
            if begun and (folder / name / last).is_file():
                print(f"{name}: finished, left out")
                continue
            try:
                train(config, folder / name, begun, amp, options, launcher)
            except CovidmmError as error:
                failed[name] = error
                print(f"{name}: {error}")
            if is_first():
                write_comparison(folder, names)
    if is_first():
        print(format_rows(*write_comparison(folder, names)))
    if failed:
        name, error = next(iter(failed.items()))
        raise TrainingError(f"{len(failed)} of {len(names)} configs could not be trained, {name}: {error}")
    return folder


def _last_checkpoint(train_cfg: Mapping[str, Any]) -> str:
    """The file that a training ends with, whether it counts epochs or iterations."""
    iterations = train_cfg.get("max_iters")
    return f"iter_{iterations}.pth" if iterations else f"epoch_{train_cfg.get('max_epochs')}.pth"


def write_comparison(folder: Path, names: Sequence[str]) -> tuple[list[str], list[list[Any]]]:
    """Write the table and the picture of the runs in a folder, and return the table's columns and rows.

    Args:
        folder: with a work dir for each name; those without a finished validation are left out.
        names: of the runs, in the order of the rows.

    Raises:
        CheckpointError: none of them was validated.
    """
    places = [folder / name for name in names if (folder / name).is_dir()]
    runs = {run.name: run.val for run in find_runs(places).runs if run.val}
    found = {name: runs[name] for name in names if name in runs}
    if not found:
        raise CheckpointError(f"{folder}: no run of {', '.join(names)} has finished a validation")
    held = [title for title, key in _METRICS.items() if any(_values(val, f"/{key}") for val in found.values())]
    columns = ["config", "epochs", "min val loss", "at epoch"]
    columns += [f"{which} {title}" for which in ("last", "best") for title in held]
    rows = [[name, *_row(val, held)] for name, val in found.items()]
    write_bytes(folder / TABLE, csv_bytes(columns, rows))
    draw_losses(folder / PICTURE, {name: _values(val, "val_loss") for name, val in found.items()})
    return columns, rows


def format_rows(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table for people; numbers with four decimals, what a run lacks as a dash."""
    cells = [list(columns), *([_text(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for first, *others in cells:
        padded = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *padded]).rstrip())
    return "\n".join(lines)


def _row(val: Sequence[Mapping[str, Any]], titles: Sequence[str]) -> list[Any]:
    losses = _values(val, "val_loss")
    epoch, lowest = min(losses, key=lambda point: point[1]) if losses else (None, None)
    series = [[value for _, value in _values(val, f"/{_METRICS[title]}")] for title in titles]
    last = [values[-1] if values else None for values in series]
    best = [max(values) if values else None for values in series]
    return [max(one.get("step", 0) for one in val), lowest, epoch, *last, *best]


def _values(val: Sequence[Mapping[str, Any]], ending: str) -> list[tuple[int, float]]:
    """(epoch, value) of each validation that has a finite one under a key of this ending."""
    return [
        (one.get("step", 0), value)
        for one in val
        for key, value in one.items()
        if key.endswith(ending) and isinstance(value, int | float) and math.isfinite(value)
    ]


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
