"""Pictures of a tested classifier: its figures, and where it looked on each image (Grad-CAM)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.registry import DATASETS
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from covidmm.engine.checkpointing import load_trained
from covidmm.models.grad_cam import GradCam
from covidmm.reports import NOTICE
from covidmm.reports.drawing import font, with_heat
from covidmm.reports.figures.png_figures import draw_confusion, draw_reliability

_SIDE = 448


def draw_labels(folder: Path, details: Mapping[str, Any], cfg: Any, weights: Path) -> None:
    """Write ``confusion.png`` and ``reliability.png`` of a single-label task, and one picture per test image.

    Args:
        folder: where; made if missing.
        details: as :class:`covidmm.evaluation.label_metric.LabelMetric` writes them.
        cfg: the config of the classifier.
        weights: its checkpoint.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if "confusion" in details:
        draw_confusion(folder / "confusion.png", details["classes"], details["confusion"])
        draw_reliability(folder / "reliability.png", details["calibration"])
    for name, picture in attention_pictures(cfg, weights, details.get("temperature", 1.0)):
        picture.save(folder / f"{name}.png")


def attention_pictures(cfg: Any, weights: Path, temperature: float = 1.0) -> Iterator[tuple[str, Image.Image]]:
    """Per test image its name and a picture: what the network saw, and Grad-CAM of its likeliest class over it.

    Logits are divided by ``temperature``.
    """
    explain = GradCam(load_trained(cfg, weights)[0], temperature)
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    classes = dataset.metainfo["classes"]
    for item in dataset:
        scores, heat = explain(item["inputs"])
        chosen = int(scores.argmax())
        sample = item["data_samples"]
        truth = [name for name, value in zip(classes, sample.target, strict=True) if value]
        caption = f"{classes[chosen]} {scores[chosen]:.2f} (true: {', '.join(truth) or 'none'})"
        # three equal channels, for a radiograph is grey
        yield Path(sample.img_path).stem, _sheet(item["inputs"][0].numpy(), heat, caption)


def _sheet(grey: NDArray[np.uint8], heat: NDArray[np.float32], caption: str) -> Image.Image:
    """The image, the image under the heat, and two lines of text below them."""
    shown = Image.fromarray(grey).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    sheet = Image.new("RGB", (2 * _SIDE, _SIDE + 48))
    sheet.paste(shown, (0, 0))
    sheet.paste(Image.fromarray(with_heat(np.asarray(shown), heat / max(float(heat.max()), 1e-12))), (_SIDE, 0))
    cells = "x".join(map(str, heat.shape))
    lines = f"Grad-CAM: {caption}", f"A map of {cells} cells, stretched over what the network saw. {NOTICE}"
    pen = ImageDraw.Draw(sheet)
    for row, text in enumerate(lines):
        pen.text((6, _SIDE + 14 + 20 * row), text, "#FFFFFF", font(13), anchor="lm")
    return sheet
