"""Pictures of a classifier: confusion matrix, reliability, and where it looked (Grad-CAM)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

NOTE = "Research software, not a medical device."


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
        confusion_figure(details["classes"], details["confusion"]).savefig(folder / "confusion.png")
        reliability_figure(details["calibration"]).savefig(folder / "reliability.png")
    for name, picture in attention_pictures(cfg, weights):
        cv2.imwrite(str(folder / f"{name}.png"), picture)


def confusion_figure(classes: list[str], confusion: Mapping[str, list]) -> Figure:
    """Counts, coloured by the share of their row."""
    figure = Figure(figsize=(6, 5.4), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(confusion["shares"], vmin=0, vmax=1, cmap="Blues")
    for row, (counts, shares) in enumerate(zip(confusion["counts"], confusion["shares"], strict=True)):
        for column, (count, share) in enumerate(zip(counts, shares, strict=True)):
            colour = "white" if share > 0.5 else "black"
            axes.text(column, row, f"{count}\n{share:.0%}", ha="center", va="center", color=colour)
    axes.set_xticks(range(len(classes)), classes, rotation=30)
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="predicted", ylabel="true", title="Confusion matrix")
    figure.colorbar(image, label="share of the true class")
    figure.text(0.01, 0.005, NOTE, fontsize=7)
    return figure


def reliability_figure(calibration: Mapping[str, Any]) -> Figure:
    """Accuracy against confidence, with the number of cases in each bin."""
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="grey", linestyle="--", label="perfectly calibrated")
    rows = calibration["bins"]
    axes.plot([row["confidence"] for row in rows], [row["accuracy"] for row in rows], marker="o", label="model")
    for row in rows:
        axes.annotate(
            str(row["count"]), (row["confidence"], row["accuracy"]), xytext=(4, -10), textcoords="offset points"
        )
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy")
    axes.set_title(f"Reliability, expected calibration error {calibration['ece']:.3f}")
    axes.legend(loc="upper left")
    figure.text(0.01, 0.005, NOTE, fontsize=7)
    return figure


def attention_pictures(cfg: Any, weights: Path) -> Any:
    """Per test image its name and (H, 2W, 3) BGR: the radiograph, and Grad-CAM of its likeliest class over it.

    Grad-CAM (Selvaraju et al., 2017) by Captum, on the backbone's last stage.
    """
    import torch
    from captum.attr import LayerGradCam
    from mmdet.registry import DATASETS, MODELS

    from covidmm.models.checkpoints import read_checkpoint, state_of

    model = MODELS.build(cfg.model)
    model.load_state_dict(state_of(read_checkpoint(weights)))
    model.eval()
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    layer = getattr(model.backbone, model.backbone.res_layers[-1])
    explain = LayerGradCam(model, layer)
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    for item in dataset:
        inputs = model.data_preprocessor({"inputs": [item["inputs"]]})["inputs"]
        with torch.no_grad():
            chosen = int(model(inputs).argmax())
        heat = explain.attribute(inputs, chosen, relu_attributions=True)[0, 0].detach().numpy()
        image = np.ascontiguousarray(item["inputs"].numpy().transpose(1, 2, 0))
        sample = item["data_samples"]
        truth = [name for name, value in zip(dataset.metainfo["classes"], sample.target, strict=True) if value]
        caption = f"{dataset.metainfo['classes'][chosen]} (true: {', '.join(truth) or 'none'})"
        yield Path(sample.img_path).stem, _overlay(image, heat, caption)


def _overlay(image: NDArray[np.uint8], heat: NDArray[np.float32], caption: str) -> NDArray[np.uint8]:
    side = 448
    image = cv2.resize(image, (side, side))
    scaled = cv2.resize(heat, (side, side)) / max(float(heat.max()), 1e-12)
    colours = matplotlib.colormaps["inferno"](scaled)[..., 2::-1] * 255
    mixed = (image * 0.6 + colours * 0.4).astype(np.uint8)
    sheet = cv2.copyMakeBorder(np.concatenate([image, mixed], 1), 0, 26, 0, 0, cv2.BORDER_CONSTANT)
    cv2.putText(sheet, f"Grad-CAM: {caption}. {NOTE}", (6, side + 18), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255,) * 3, 1)
    return sheet
