"""A whole ensemble of detectors as covidmm runs it, beside the plain way: the same models, one after the other."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.logging import MMLogger
from torch import nn

from benchmarks.networks import DEVICE, ROOT, build_model
from benchmarks.timing import time_in_turn
from covidmm.engine.checkpointing import load_trained, trained_file
from covidmm.engine.config import load_config
from covidmm.ensembles.ensemble_config import EnsembleConfig, Member, load_ensemble
from covidmm.errors import CheckpointError
from covidmm.findings import Detections
from covidmm.inference.detector import select
from covidmm.inference.export import SCORE, agreement_of, phantoms
from covidmm.inference.predictor import Predictor

DISTRIBUTIONS = ("torch", "onedl-mmdetection", "onedl-mmengine")
#: The report's: ResNeXt-101 32x8d Faster R-CNN at 1024 px and YOLOv5-l, weighted box fusion.
CONFIG = ROOT / "configs/ensemble_wbf_siim.py"


def benchmark(
    config: str | Path = CONFIG,
    options: Sequence[str] = (),
    precision: str = "auto",
    augmented: bool = True,
    images: int = 2,
    repeats: int = 5,
) -> dict[str, Any]:
    """Time detectors and fusion on image files, from the file to the fused boxes, in turn in one process.

    The plain way is MMDetection's: each model decodes each file again, sees one image at a time, in float32 and the
    memory layout of PyTorch's default, and runs each view of the test-time augmentation on its own. The study
    classifier takes no part. A member whose checkpoint is not there gets random weights: that changes no time, but
    then the boxes mean nothing and are not compared.

    Args:
        config: of the ensemble.
        options: overrides of it, each ``dotted.key=value``.
        precision: what covidmm's way computes in: ``float32``, ``bfloat16``, ``float16``, ``auto``.
        augmented: test-time augmentation for members whose config has one.
        images: phantoms, of the size of prepared images, all of them in each call.
        repeats: timed calls of each, see :func:`~benchmarks.timing.time_in_turn`.

    Returns:
        Seconds per image of both, their ratio (below 1: covidmm is faster), the agreement of the fused boxes or None.

    Raises:
        CovidmmError: a config or checkpoint that cannot be used.
    """
    ensemble = replace(load_ensemble(config, options), study=None)
    with tempfile.TemporaryDirectory() as folder:
        members, random = with_weights(ensemble.members, augmented, Path(folder))
        files = [Path(folder) / f"{number}.png" for number in range(images)]
        for file, phantom in zip(files, phantoms(images), strict=True):
            cv2.imwrite(str(file), phantom.shrunk(ensemble.max_size).pixels)
        faster = {
            name: replace(one, backend=replace(one.backend, precision=precision)) for name, one in members.items()
        }
        predictor = Predictor(replace(ensemble, members=faster))
        plain = _Plain(replace(ensemble, members=members), predictor)
        taken, plain_taken, ratio = time_in_turn(lambda: predictor(files), lambda: plain(files), repeats)
        found = [study.images[0].fused for study in predictor(files)]
        agreement = None if random else asdict(agreement_of(plain(files), found))
    return {
        "config": str(config),
        "random_weights": random,
        "precision": {name: one.backend.precision for name, one in predictor.detectors.items()},
        "augmented": [name for name, one in predictor.detectors.items() if one.augmented],
        "images": images,
        "repeats": repeats,
        "threads": torch.get_num_threads(),
        "ratio": ratio,
        "seconds_per_image": taken / images,
        "plain_seconds_per_image": plain_taken / images,
        "agreement": agreement,
    }


def format_report(report: dict[str, Any]) -> str:
    """A few lines for people, ratio first."""
    members = ", ".join(
        f"{name} {precision}{' augmented' if name in report['augmented'] else ''}"
        for name, precision in report["precision"].items()
    )
    found = report["agreement"]
    boxes = "not compared: random weights"
    if found:
        boxes = f"{found['boxes']} of a score above {SCORE}, smallest IoU {found['worst_iou']:.4f}"
    return "\n".join(
        [
            f"{'ratio':>6} {'covidmm s/image':>16} {'plain s/image':>14}",
            f"{report['ratio']:>6.3f} {report['seconds_per_image']:>16.3f} {report['plain_seconds_per_image']:>14.3f}",
            f"{Path(report['config']).name}: {members}; {report['threads']} threads",
            f"boxes: {boxes}",
        ]
    )


def with_weights(members: Mapping[str, Member], augmented: bool, folder: Path) -> tuple[dict[str, Member], list[str]]:
    """Members with checkpoints that exist, new ones in a folder, and the names of those whose weights are random."""
    if not MMLogger.check_instance_created("covidmm"):
        MMLogger.get_instance("covidmm", log_level="WARNING")  # models log how each of their parameters was initialised
    found, random = {}, []
    for name, member in members.items():
        cfg = load_config(member.config)
        views = augmented and "tta_pipeline" in cfg
        try:
            exists = trained_file(member.checkpoint).is_file()
        except CheckpointError:
            exists = False
        if not exists:
            random.append(name)
            torch.manual_seed(0)
            torch.save({"state_dict": _untrained(cfg).state_dict()}, folder / f"{name}.pth")
        checkpoint = member.checkpoint if exists else str(folder / f"{name}.pth")
        found[name] = replace(member, checkpoint=checkpoint, test_time_augmentation=views)
    return found, random


def _untrained(cfg: Config) -> nn.Module:
    """A model as its training starts, but for pretrained weights; YOLOv5 as sure as a trained one that most is empty.

    Otherwise every anchor is a box, and sorting out tens of thousands of them takes most of the time.
    """
    cfg = copy.deepcopy(cfg)
    for part in (cfg.model, cfg.model.backbone):
        part.init_cfg = None
    model = build_model(cfg)
    model.init_weights()
    for conv in getattr(model.bbox_head if hasattr(model, "bbox_head") else None, "convs_pred", ()):
        conv.bias.detach().view(-1, model.bbox_head.num_outputs)[:, 4] -= 5
    return model


class _Plain:
    """MMDetection's models as its own test loop runs them at batch 1, and the same fusion."""

    def __init__(self, config: EnsembleConfig, predictor: Predictor) -> None:
        self.config, self.strategy, self.members = config, predictor.strategy, []
        for member in config.members.values():
            cfg = load_config(member.config)
            model, _ = load_trained(cfg, trained_file(member.checkpoint))
            steps = cfg.test_dataloader.dataset.pipeline
            if member.test_time_augmentation:
                model, steps = MODELS.build({**cfg.tta_model, "module": model}), cfg.tta_pipeline
            pipeline = Compose([step for step in steps if step.type != "LoadAnnotations"])
            self.members.append((member, pipeline, model.to(DEVICE).eval()))

    def __call__(self, files: Sequence[Path]) -> list[Detections]:
        """Fused boxes of each file, in its own pixels."""
        return [self._fused(file) for file in files]

    def _fused(self, file: Path) -> Detections:
        chosen, size = [], (0, 0)
        for member, pipeline, model in self.members:
            batch = pseudo_collate([pipeline({"img_path": str(file), "img_id": 0})])
            with torch.no_grad():
                result = model.test_step(batch)[0]
            found, size = result.pred_instances.cpu(), result.ori_shape
            boxes = found.bboxes.numpy().astype(np.float32)
            chosen.append(select(Detections(boxes, found.scores.numpy(), found.labels.numpy()), member))
        return self.strategy.fuse(chosen, [one.weight for one, _, _ in self.members], size)
