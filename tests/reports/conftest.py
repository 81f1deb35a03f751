"""Small inputs of a report: prepared images, a training, its test, and an ensemble."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from covidmm.evaluation.detection import score_detections
from covidmm.findings import OPACITY, STUDY_CLASSES, Detections
from covidmm.outputs.predictions import ImageEntry, PredictionsWriter

CONFIG = """
_base_ = './base.py'
train_cfg = dict(max_epochs={epochs})
optimizer = dict(lr=0.02)
"""
BASE = "train_cfg = dict(max_epochs=50)\noptimizer = dict(lr=0.01, type='SGD')\nrandomness = dict(seed=0)\n"


FINDINGS = ("Nodule/Mass", "Pleural effusion", "Pneumothorax")


def write_prepared(folder: Path, images: int, split: str = "test", seed: int = 0, classes=OPACITY) -> Path:
    """A prepared folder with one split; image k is of class k % 4, negatives have no box."""
    rng = np.random.default_rng(seed)
    categories = [{"id": number, "name": name} for number, name in enumerate(classes, start=1)]
    content = {"images": [], "annotations": [], "categories": categories}
    for number in range(1, images + 1):
        kind = STUDY_CLASSES[number % 4]
        name = f"image{number:04d}"
        path = folder / "images" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 255, (8, 8)).astype(np.float32)
        assert cv2.imwrite(str(path), cv2.resize(coarse, (200, 160)).astype(np.uint8))
        content["images"].append(
            {
                "id": number,
                "file_name": path.name,
                "width": 200,
                "height": 160,
                "original_width": 400,
                "original_height": 320 + number % 2 * 8,
                "image_id": name,
                "study_id": f"study{number:04d}",
                "study_class": kind if classes == OPACITY else None,
                "fold": 0,
                "patient": None,
                "photometric": "MONOCHROME2",
                "bits_stored": 12,
                "transfer_syntax": "1.2.840.10008.1.2.4.70",
                "sex": "F",
                "age": 50,
            }
        )
        for x in (20, 120)[: 0 if kind == "negative" else 1 + number % 2]:
            box = {"bbox": [x, 30, 50, 80], "area": 4000, "iscrowd": 0}
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": number,
                    "category_id": 1 + (number + x) % len(classes),
                    **box,
                }
            )
    path = folder / "annotations" / f"{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    (folder / "prepared.json").write_text(json.dumps({"layout": "siim", "data_sha256": "abc", "options": {}}))
    return path


def predict(annotations: Path, boxes: int, seed: int) -> list[dict]:
    """A COCO results list: half of the truth a little moved, the rest at random, low scores."""
    rng = np.random.default_rng(seed)
    content = json.loads(annotations.read_text())
    classes = len(content["categories"])
    results = []
    for one in content["annotations"]:
        if rng.random() < 0.7:
            box = (np.array(one["bbox"]) + rng.uniform(-4, 4, 4)).round(2).tolist()
            category = one["category_id"]
            results.append(
                {"image_id": one["image_id"], "category_id": category, "bbox": box, "score": rng.uniform(0.3, 1)}
            )
    for image in content["images"]:
        for _ in range(rng.integers(0, 2 * boxes)):
            box = [*rng.uniform(0, 120, 2).round(2).tolist(), 30.0, 30.0]
            score = rng.uniform(0.01, 0.6)
            category = 1 + int(1000 * score) % classes
            results.append({"image_id": image["id"], "category_id": category, "bbox": box, "score": score})
    return sorted(results, key=lambda one: one["image_id"])


def write_training(folder: Path, epochs: int, steps: int = 3) -> Path:
    """A run folder with a log, scalars and the dumped config."""
    inner = folder / "20260101_000000"
    (inner / "vis_data").mkdir(parents=True)
    lines, log = [], ["2026/01/01 00:00:00 - mmengine - INFO - \n    Python: 3.11.7 (main)\n"]
    for epoch in range(1, epochs + 1):
        for k in range(1, steps + 1):
            step = (epoch - 1) * steps + k
            loss = {"loss": 2.0 / step, "loss_cls": 1.5 / step, "loss_bbox": 0.5 / step}
            lines.append({"lr": 0.01 / epoch, **loss, "epoch": epoch, "iter": step, "step": step})
        found = {"detection/mAP_50": epoch / epochs, "detection/f1": 0.5, "val_loss": 2.5 / epoch, "step": epoch}
        lines.append({**found, "val_loss_cls": 2.0 / epoch})
        log.append(
            f"2026/01/01 0{epoch % 10}:00:00 - mmengine - INFO - Epoch(train)  [{epoch}][3/3]  eta: 0:06:44  lr: 1"
        )
    (inner / "vis_data" / "scalars.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (inner / "20260101_000000.log").write_text("\n".join(log) + "\n")
    (folder / "frcnn_small.py").write_text(BASE.replace("lr=0.01", "lr=0.02").replace("50", str(epochs)))
    return inner / "vis_data" / "scalars.json"


def write_test(folder: Path, annotations: Path, results: list[dict]) -> None:
    """What tools/test.py leaves: predictions and metrics."""
    (folder / "predictions.json").write_text(json.dumps(results))
    (folder / "best_epoch_2.pth").write_bytes(b"weights")
    metrics = score_detections(json.loads(annotations.read_text()), results, 0.5)
    origin = {
        "config": "configs/frcnn_small.py",
        "checkpoint": str(folder / "best_epoch_2.pth"),
        "checkpoint_sha256": hashlib.sha256(b"weights").hexdigest(),
        "data": str(annotations),
        "data_sha256": hashlib.sha256(annotations.read_bytes()).hexdigest(),
        "versions": {"covidmm": "0", "torch": "2"},
        "machine": {"platform": "Linux", "cpus": 2, "gpu": None},
        "git_revision": "cafe+changes",
    }
    content = {"detectors": {"frcnn": metrics}, "provenance": {"frcnn": origin}}
    (folder / "metrics.json").write_text(json.dumps(content))


def write_ensemble(folder: Path, annotations: Path, members: dict[str, list[dict]]) -> None:
    """What tools/ensemble.py leaves: predictions in pixels of the originals, study probabilities, thresholds."""
    content = json.loads(annotations.read_text())
    images, classes = content["images"], [one["name"] for one in content["categories"]]
    of_classes = {"classes": classes} if len(classes) > 1 else {}
    for name, results in members.items():
        with PredictionsWriter(folder / "test", name, {"made": name, **of_classes}) as writer:
            for image in images:
                own = [one for one in results if one["image_id"] == image["id"]]
                scale = np.array([2, image["original_height"] / 160] * 2)
                boxes = np.array([one["bbox"] for one in own], np.float64).reshape(-1, 4)
                boxes[:, 2:] += boxes[:, :2]
                boxes = np.clip(boxes * scale, 0, [400, 320, 400, 320]).astype(np.float32)
                labels = np.array([one["category_id"] - 1 for one in own], int)
                found = Detections(boxes, np.array([one["score"] for one in own], np.float32), labels)
                entry = ImageEntry(image["image_id"], image["study_id"], image["original_height"], 400)
                writer.add([(entry, found)])
            writer.finish()
    studies = {image["study_id"]: [0.4, 0.3, 0.2, 0.1] for image in images}
    (folder / "test" / "study.json").write_text(json.dumps({"studies": studies}))
    operating = {"thresholds": dict.fromkeys(members, 0.5)}
    if of_classes:
        own = {name: 0.3 + 0.1 * number for number, name in enumerate(classes)}
        operating["per_class"] = dict.fromkeys(members, own)
    (folder / "operating.json").write_text(json.dumps(operating))


def make_world(root: Path, images: int = 24, epochs: int = 4, boxes: int = 4, classes=OPACITY) -> SimpleNamespace:
    """Everything; folders ``work/frcnn`` and ``work/ensemble``, data ``data/small``."""
    annotations = write_prepared(root / "data" / "small", images, classes=classes)
    scalars = write_training(root / "work" / "frcnn", epochs)
    (root / "configs").mkdir()
    (root / "configs" / "base.py").write_text(BASE)
    (root / "configs" / "frcnn_small.py").write_text(CONFIG.format(epochs=epochs))
    members = {name: predict(annotations, boxes, seed) for seed, name in enumerate(("frcnn", "yolo", "ensemble"))}
    write_test(root / "work" / "frcnn", annotations, members["frcnn"])
    write_ensemble(root / "work" / "ensemble", annotations, members)
    return SimpleNamespace(
        root=root,
        work=root / "work",
        run=root / "work" / "frcnn",
        ensemble=root / "work" / "ensemble",
        data=root / "data" / "small",
        annotations=annotations,
        scalars=scalars,
    )


@pytest.fixture(scope="session")
def world_of():
    """Makes a world of any size in a folder."""
    return make_world


@pytest.fixture
def findings(tmp_path) -> SimpleNamespace:
    """A world of several classes that a test may damage."""
    return make_world(tmp_path, classes=FINDINGS)


@pytest.fixture
def world(tmp_path) -> SimpleNamespace:
    """A world of 24 images that a test may damage."""
    return make_world(tmp_path)
