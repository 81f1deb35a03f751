"""Every family of detectors of MMDetection on covidmm's data: ``python -m tests.stress.zoo [FAMILY ...]``.

One config of each gets one class, random weights and a plain pipeline on a few phantoms. Then: two training
iterations by tools/train.py's function, with their loss and gradient; predictions; a member's boxes against the model's
own; whether its faster forms could be compared; an ONNX graph, which is not run. What is found is kept under
work_dirs/zoo, so that another run does only what is missing, red or changed. A run of all families writes the last
section of docs/detectors.md.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import multiprocessing
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import mmcv
import mmdet
import numpy as np
import torch
from mmdet.registry import DATASETS, MODELS
from mmdet.structures.bbox import get_box_tensor
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope

import covidmm.registration  # noqa: F401
from covidmm.engine.config import load_config
from covidmm.ensembles.ensemble_config import Member
from covidmm.errors import CovidmmError
from covidmm.inference.detector import Detector
from covidmm.inference.export import to_onnx
from covidmm.jobs.train_test import train
from covidmm.models.pretrained import without_pretraining
from covidmm.radiograph import of_array
from covidmm.utils.command_line import run_tool
from covidmm.utils.fileio import write_bytes
from tests.stress.zoo_families import FAMILIES, OTHERS

ROOT = Path(__file__).parents[2]
MMDET_CONFIGS = Path(mmdet.__file__).parent / ".mim/configs"
STEPS = ("builds", "trains", "loss", "predicts", "member", "forms", "exports")
#: A family is green if all but the last work.
NEEDED = STEPS[:-1]
#: Chosen here: processor seconds that a family may take, and how far a member's boxes may be from the model's own.
SECONDS, PIXELS = 1200, 1e-3
#: Chosen here: sides of the images in pixels, and those of models whose last maps would have none left.
SIDE = 128
SIDES = {"openimages": 300, "ssd": 300, "wider_face": 300} | dict.fromkeys(
    ("centripetalnet", "cornernet", "ddq", "deformable_detr", "dino"), 256
)
PAGE, HEADING = ROOT / "docs/detectors.md", "## Families of MMDetection"
INTRODUCTION = """\
`python -m tests.stress.zoo` takes one config of each folder of MMDetection's, gives it one class and a plain pipeline
on small phantoms, and tries: two training iterations by `tools/train.py` (trains), whose loss and gradient are finite
(loss); boxes of the trained model (predicts); the same boxes, within 0.001 pixels, from a member of an ensemble
(member); whether its faster forms could be compared (forms); an ONNX graph (exports). It shows that a family works,
not how well it finds anything."""
#: Families that read in tests what only steps of their own pipelines write.
OWN_TESTS = ("centernet", "centripetalnet", "cornernet")
#: Parts that learn from masks, of which a folder of boxes has none: taken away, the detector of boxes stays.
MASK_PARTS = (
    "mask_head",
    "mask_roi_extractor",
    "semantic_head",
    "semantic_roi_extractor",
    "mask_iou_head",
    "point_head",
)
#: What a config has under train_cfg although its classes read none of it, which covidmm refuses.
UNREAD = {"nas_fcos": ("assigner", "allowed_border", "pos_weight")}


def configured(name: str, folder: Path) -> Path:
    """Write a family's config with one class, random weights, and the phantoms as data.

    Args:
        name: a config of MMDetection, such as ``tood/tood_r50_fpn_1x_coco.py``.
        folder: where it goes.
    """
    cfg = Config.fromfile(MMDET_CONFIGS / name)
    model = _with_one_class(without_pretraining(cfg.model.to_dict()))
    data = Config.fromfile(ROOT / "configs/_base_/siim_detector.py")
    family = name.split("/", maxsplit=1)[0]
    for key in UNREAD.get(family, ()):
        del model["train_cfg"][key]
    side = SIDES.get(family, SIDE)
    resize = {"type": "Resize", "scale": (side, side), "keep_ratio": False}
    load = {"type": "LoadImageFromFile", "to_float32": family in OWN_TESTS}
    boxes, pack = {"type": "LoadAnnotations", "with_bbox": True}, {"type": "PackDetInputs"}
    train_steps = [load, boxes, resize, {"type": "RandomFlip", "prob": 0.5}, pack]
    test_steps = cfg.test_pipeline if family in OWN_TESTS else [load, boxes, resize, pack]
    loader = {"num_workers": 0, "worker_init_fn": {"type": "seed_worker"}}
    sampler = {"type": "DefaultSampler", "shuffle": False}

    def loader_of(split: str, steps: list[dict[str, Any]], images: int) -> dict[str, Any]:
        dataset = {**data[f"siim_{split}"], "pipeline": steps, "indices": images, "test_mode": split != "train"}
        # one image, as MMDetection tests by default and some families must
        return {**loader, "batch_size": 2 if split == "train" else 1, "sampler": sampler, "dataset": dataset}

    content = {
        "default_scope": "mmdet",
        "custom_imports": {
            "imports": [*cfg.get("custom_imports", {}).get("imports", []), *data.custom_imports.imports]
        },
        "randomness": {"seed": 0},
        "model": model,
        "train_dataloader": loader_of("train", train_steps, 4),
        "val_dataloader": loader_of("val", test_steps, 2),
        "test_dataloader": loader_of("test", test_steps, 2),
        "val_evaluator": {k: v for k, v in data.siim_val_evaluator.items() if k != "_delete_"},
        "test_evaluator": {k: v for k, v in data.siim_test_evaluator.items() if k != "_delete_"},
        "train_cfg": {"by_epoch": True, "max_epochs": 1, "val_interval": 1},
        "val_cfg": {},
        "test_cfg": {},
        # a small step, whatever random weights give, and the gradient's norm in the log
        "optim_wrapper": {
            "type": "OptimWrapper",
            "optimizer": {"type": "SGD", "lr": 1e-4},
            "clip_grad": {"max_norm": 1.0},
        },
        "default_hooks": {
            "checkpoint": {"type": "ResumableCheckpointHook", "save_best": "detection/mAP_50", "rule": "greater"},
            "logger": {"type": "LoggerHook", "interval": 1},
        },
        # on so small images the preflight would rightly say that no anchor is near a box
        "custom_hooks": [hook for hook in data.siim_checks if hook.type != "PreflightHook"],
    }
    path = folder / f"{Path(name).stem}.py"
    Config(content).dump(path)
    return path


def _with_one_class(model: Any) -> Any:
    """A model's config for one class, without its thresholds and the parts that need masks."""
    if isinstance(model, Mapping):
        kept = {key: _with_one_class(value) for key, value in model.items() if key not in MASK_PARTS}
        if kept.get("type") in ("BN", "SyncBN"):
            kept["momentum"] = 1.0  # two iterations are too few for an average
            kept.update({"eps": 1e-5} if kept.get("eps") == 0 else {})  # which torch refuses
        unfrozen = 0 if kept.get("type") == "EfficientNet" else -1
        ours = {"num_classes": 1, "score_thr": 0.0, "frozen_stages": unfrozen, "norm_eval": False}
        if "teacher_config" in kept:
            kept["teacher_config"] = str(MMDET_CONFIGS.parent / kept["teacher_config"])
        return kept | {key: value for key, value in ours.items() if key in kept or _by_default(kept, key)}
    if isinstance(model, list | tuple):
        return type(model)(_with_one_class(value) for value in model)
    return model


def _by_default(part: Mapping[str, Any], key: str) -> bool:
    """Whether a part has norms that do not learn unless its config says so: random weights overflow without theirs."""
    return key == "norm_eval" and part.get("type") == "HRNet"


def examine(name: str, folder: Path) -> dict[str, str]:
    """Do all steps with one config.

    Returns:
        ``ok`` or the cause, by step; steps after one that the others need are left out.
    """
    found: dict[str, str] = {}
    made: dict[str, Any] = {}

    def build() -> None:
        init_default_scope("mmdet")
        made["config"] = configured(name, folder)
        made["cfg"] = load_config(made["config"])
        made["model"] = MODELS.build(ConfigDict(without_pretraining(copy.deepcopy(made["cfg"].model.to_dict()))))

    steps: dict[str, Callable[[], None]] = {
        "builds": build,
        "trains": lambda: made.update(run=train(made["config"], folder / "run")),
        "loss": lambda: _loss(made["run"]),
        "predicts": lambda: _predictions(made),
        "member": lambda: _member(made),
        "forms": lambda: _forms(made["detector"].forms.left),
        "exports": lambda: made.update(onnx=to_onnx(str(made["config"]), str(made["run"]))),
    }
    for step, do in steps.items():
        try:
            do()
            found[step] = "ok"
        except Exception as error:  # any failure of a family is a finding
            lines = str(error).strip().splitlines() or [""]
            said = lines[-1] if "Traceback" in lines[0] else lines[0]
            found[step] = f"{type(error).__name__}: {said.replace(str(folder), '')[:160]}"
            if step == "builds":
                break
    return found


def _loss(run: Path) -> None:
    (scalars,) = run.glob("*/vis_data/scalars.json")
    steps = [one for one in map(json.loads, scalars.read_text().splitlines()) if "grad_norm" in one]
    if len(steps) != 2 or not all(np.isfinite([one["loss"], one["grad_norm"]]).all() for one in steps):
        raise ValueError(f"loss and gradient of two iterations: {steps}")
    if not all(one["grad_norm"] > 0 for one in steps):
        raise ValueError("nothing learns")


def _predictions(made: Mapping[str, Any]) -> None:
    (checkpoint,) = made["run"].glob("best_*.pth")
    weights = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    made["model"].load_state_dict(weights, strict=False)
    made["model"].eval()
    dataset = DATASETS.build(made["cfg"].test_dataloader.dataset)
    with torch.inference_mode():
        results = [made["model"].test_step(pseudo_collate([dataset[index]]))[0] for index in range(2)]
    boxes = torch.cat([get_box_tensor(one.pred_instances.bboxes) for one in results])
    if not len(boxes) or not torch.isfinite(boxes).all():
        raise ValueError("no box" if not len(boxes) else "boxes are not finite")


def _forms(left: Sequence[str]) -> None:
    if unlike := [one for one in left if "cannot be compared" in one or "finds no box" in one]:
        raise ValueError(unlike[0])


def _member(made: dict[str, Any]) -> None:
    """The boxes of a member against those of the model's own pipeline on the same file.

    In double precision, where the model can: scores of random weights are so near that rounding would choose the boxes.
    """
    detector = made["detector"] = Detector(Member(str(made["config"]), str(made["run"])), "zoo", device="cpu")
    dataset = DATASETS.build(made["cfg"].test_dataloader.dataset)
    try:
        compared = _compare(detector, made["model"], dataset, torch.float64)
    except RuntimeError:
        compared = _compare(detector, made["model"], dataset, torch.float32)
    if not compared:
        raise ValueError("no box to compare")


def _compare(detector: Detector, plain: torch.nn.Module, dataset: Any, dtype: torch.dtype) -> int:
    """How many boxes of two images are the same.

    Raises:
        ValueError: some are not.
    """
    for model in (detector.model, plain):
        torch.nn.Module.to(model, dtype)
    compared = 0
    for index in range(2):
        torch.manual_seed(0)
        with torch.inference_mode():
            own = plain.test_step(pseudo_collate([dataset[index]]))[0].pred_instances
        pixels = cv2.imread(dataset.get_data_info(index)["img_path"], cv2.IMREAD_GRAYSCALE)
        torch.manual_seed(0)
        found = detector([of_array(pixels)])[0]
        height, width = pixels.shape
        boxes = get_box_tensor(own.bboxes).clamp(min=0).minimum(torch.tensor([width, height, width, height])).numpy()
        kept = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        boxes, scores = boxes[kept], own.scores.numpy()[kept]
        if len(boxes) != len(found.boxes):
            raise ValueError(f"{len(found.boxes)} boxes, the model alone finds {len(boxes)}")
        if len(boxes):
            apart = np.abs(found.boxes[:, None] - boxes[None]).max(-1) + np.abs(found.scores[:, None] - scores[None])
            if not apart.min(1).max() <= PIXELS:
                raise ValueError(f"boxes differ from the model's by {apart.min(1).max():.3g}")
        compared += len(boxes)
    return compared


def _child(name: str, folder: Path, file: Path, key: str) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    sys.stdout = sys.stderr = (folder / "log.txt").open("w")
    os.dup2(sys.stdout.fileno(), 1)
    os.dup2(sys.stdout.fileno(), 2)
    started = time.process_time()
    found = examine(name, folder)
    result = {"config": name, "key": key, "steps": found, "seconds": round(time.process_time() - started)}
    write_bytes(file, json.dumps(result).encode())


def result_of(family: str, out: Path, again: bool) -> dict[str, Any]:
    """What was found of a family, now or by an earlier run of the same versions."""
    name = f"{family}/{FAMILIES[family]}"
    versions = [torch.__version__, mmcv.__version__, mmdet.__version__, name]
    key = hashlib.sha256("".join(versions).encode()).hexdigest()
    file = out / f"{family}.json"
    known = json.loads(file.read_text()) if file.is_file() else {}
    if not again and known.get("key") == key and all(known["steps"].get(step) == "ok" for step in NEEDED):
        return known
    folder = out / family
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    child = multiprocessing.get_context("fork").Process(target=_child, args=(name, folder, file, key))
    file.unlink(missing_ok=True)
    child.start()
    child.join()
    for path in folder.rglob("*.pth"):  # 25 GB of all families
        path.unlink()
    if not file.is_file():
        cause = f"over {SECONDS} s of processor time" if child.exitcode in (-24, -9) else f"exit code {child.exitcode}"
        return {"config": name, "key": key, "steps": {"builds": f"ended: {cause}"}, "seconds": SECONDS}
    return json.loads(file.read_text())


def section(results: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: a row for each family, then the causes and what was not examined."""
    head = ["family and config", *STEPS]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    causes = []
    for result in results:
        steps = result["steps"]
        cells = ["yes" if steps.get(step) == "ok" else "**no**" if step in NEEDED else "no" for step in STEPS]
        family, config = result["config"].removesuffix(".py").split("/")
        # one column: the page has no room for more
        lines.append(f"| {family}: {config} | {' | '.join(cells)} |")
        causes += [f"* {family}, {step}: {cause}" for step, cause in steps.items() if cause != "ok" and step in NEEDED]
    others: dict[str, list[str]] = {}
    for family, reason in sorted(OTHERS.items()):
        others.setdefault(reason, []).append(family)
    green = sum(is_green(one) for one in results)
    counted = f"{green} of {len(results)} families work in all but the last column; {_machine()}."
    left = [f"* {', '.join(families)}: {reason}" for reason, families in others.items()]
    return "\n".join(
        [HEADING, "", INTRODUCTION, "", counted, "", *lines, "", *causes, "", "Not examined:", "", *left, ""]
    )


def write_on_page(text: str, page: Path = PAGE) -> None:
    """Replace the last section of a page."""
    before, found, _ = page.read_text(encoding="utf-8").partition(HEADING)
    if not found:
        raise CovidmmError(f"{page}: no section '{HEADING}' to replace")
    write_bytes(page, (before + text).encode())


def is_green(result: Mapping[str, Any]) -> bool:
    """Whether a family does all that a member of an ensemble needs."""
    return all(result["steps"].get(step) == "ok" for step in NEEDED)


def _machine() -> str:
    extra = [f", {name} {version(name)}" for name in ("onedl-mmpretrain", "timm") if find_spec("mmpretrain")]
    return (
        f"{platform.machine()}, CPU, torch {torch.__version__}, mmcv {mmcv.__version__} without compiled ops, "
        f"mmdet {mmdet.__version__}{''.join(extra)}"
    )


def _phantoms(out: Path) -> Path:
    """A prepared folder of 24 phantom studies."""
    folder = out / "prepared"
    if not (folder / "prepared.json").is_file():
        for arguments in (
            ["phantom", out / "raw", "--studies", "24", "--seed", "0"],
            ["siim", out / "raw", folder, "--max-size", "512"],
        ):
            subprocess.run([sys.executable, ROOT / "tools/prepare.py", *map(str, arguments)], check=True)
    return folder


def main() -> int:
    """Examine, print, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "families", nargs="*", metavar="FAMILY", help="a folder of MMDetection's configs (default: all)"
    )
    parser.add_argument("--again", action="store_true", help="also what an earlier run found green")
    parser.add_argument("--out", type=Path, default=Path("work_dirs/zoo"))
    args = parser.parse_args()
    if unknown := sorted(set(args.families) - set(FAMILIES)):
        raise CovidmmError(f"unknown or not examined: {', '.join(unknown)}")
    args.out.mkdir(parents=True, exist_ok=True)
    os.environ["SIIM_ROOT"] = str(_phantoms(args.out).resolve())
    os.environ["COVIDMM_CACHE"] = str((args.out / "cache").resolve())
    results = []
    for family in args.families or sorted(FAMILIES):
        results.append(result_of(family, args.out, args.again))
        red = [f"{step}: {cause}" for step, cause in results[-1]["steps"].items() if cause != "ok" and step in NEEDED]
        print(f"{family:24} {results[-1]['seconds']:5} s  {'; '.join(red) or 'ok'}", flush=True)
    green = sum(is_green(one) for one in results)
    print(f"{green} of {len(results)} families")
    if not args.families:
        write_on_page(section(results))
    return 0 if green == len(results) else 1


if __name__ == "__main__":
    sys.exit(run_tool(main))
