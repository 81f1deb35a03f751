"""Every small config trained twice, and once more from its first epoch: ``python -m tests.stress.reproduce``.

The same seed must give the same weights and metrics, to the last bit, on one machine. ``make test-long`` runs it, too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from benchmarks.phantoms import ROOTS, prepare_phantoms

ROOT = Path(__file__).parents[2]
#: The configs that train a model, those first whose weights others start from, and what they need to run by themselves.
CONFIGS = {
    "frcnn_r18_siim": (),
    "retinanet_r18_siim": (),
    "yolov5n_siim": (),
    "yolov5n_rsna": (),
    "yolov5n_rsna_siim": (),
    "r18_nih": (),
    "study_r18_siim": ("pretrained=none",),
}
EPOCHS = 2


def reproduce(name: str, folder: Path, prepared: Path) -> dict[str, bool]:
    """Train one config for two epochs, twice, and its second epoch once more.

    Returns:
        Whether the second training, and the resumed one, ended in the weights and metrics of the first.
    """
    first, again, resumed = (folder / name / run for run in ("first", "again", "resumed"))
    for run in (first, again):
        _train(name, run, prepared, folder)
    resumed.mkdir()
    shutil.copy(first / "epoch_1.pth", resumed)
    (resumed / "last_checkpoint").write_text(str(resumed / "epoch_1.pth"))
    _train(name, resumed, prepared, folder, "--resume")
    wanted = _end(first)
    shutil.copy(first / f"epoch_{EPOCHS}.pth", _store(folder) / f"{name}.pth")
    return {"again": _same(wanted, _end(again)), "resumed": _same(wanted, _end(resumed))}


def _store(folder: Path) -> Path:
    (folder / "store").mkdir(exist_ok=True)
    return folder / "store"


def _train(name: str, run: Path, prepared: Path, folder: Path, *more: str) -> None:
    options = [f"train_cfg.max_epochs={EPOCHS}", *CONFIGS[name]]
    command = [sys.executable, "tools/train.py", f"configs/small/{name}.py", "--work-dir", str(run), *more]
    environment = os.environ | dict.fromkeys(ROOTS, str(prepared)) | {"COVIDMM_CHECKPOINTS": str(_store(folder))}
    ended = subprocess.run(
        [*command, "--cfg-options", *options], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if ended.returncode:
        raise RuntimeError(f"{name}: the training ended with {ended.returncode}: {ended.stderr[-500:]}")


def _end(run: Path) -> dict[str, Any]:
    content = torch.load(run / f"epoch_{EPOCHS}.pth", weights_only=True)
    averaged = content.get("ema_state_dict", {})
    return {"weights": content["state_dict"], "averaged": averaged, "metrics": content["meta"]["val_metrics"]}


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one["metrics"] == other["metrics"] and all(
        one[part].keys() == other[part].keys()
        and all(torch.equal(value, other[part][name]) for name, value in one[part].items() if torch.is_tensor(value))
        for part in ("weights", "averaged")
    )


def run() -> tuple[int, list[str]]:
    """Reproduce every config; how many trainings were compared, and those that differed."""
    differing, compared = [], 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepared = prepare_phantoms(folder / "data", studies=14, side=256)
        for config in CONFIGS:
            found = reproduce(config, folder, prepared)
            compared += len(found)
            differing += [f"{config}, {how}" for how, same in found.items() if not same]
            print(f"{config}: {found}", file=sys.stderr, flush=True)
    return compared, differing


def main() -> int:
    """Print what differed."""
    compared, differing = run()
    print(
        f"{compared - len(differing)} of {compared} trainings ended in the same weights and metrics",
        *differing,
        sep="\n",
    )
    return 1 if differing else 0


if __name__ == "__main__":
    raise SystemExit(main())
