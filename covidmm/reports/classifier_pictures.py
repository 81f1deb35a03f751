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

from covidmm.reports.figures.style import BLUE

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
    for name, picture in attention_pictures(cfg, weights, details.get("temperature", 1.0)):
        cv2.imwrite(str(folder / f"{name}.png"), picture)


def confusion_figure(classes: list[str], confusion: Mapping[str, list], titled: bool = True) -> Figure:
    """Counts, coloured by the share of their row, a dash where it is empty; without title and note for a page."""
    figure = Figure(figsize=(6, 5.4), layout="constrained")
    axes = figure.add_subplot()
    # a class without a case has no shares: its row stays without colour
    image = axes.imshow(np.array(confusion["shares"], np.float64), vmin=0, vmax=1, cmap="Blues")
    for row, (counts, shares) in enumerate(zip(confusion["counts"], confusion["shares"], strict=True)):
        for column, (count, share) in enumerate(zip(counts, shares, strict=True)):
            colour = "white" if share is not None and share > 0.5 else "black"
            text = "-" if share is None else f"{count}\n{share:.0%}"
            axes.text(column, row, text, ha="center", va="center", color=colour)
    axes.set_xticks(range(len(classes)), classes, rotation=30)
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="predicted", ylabel="true")
    axes.grid(visible=False)
    figure.colorbar(image, label="share of the true class", shrink=0.82)
    if titled:
        axes.set_title("Confusion matrix")
        _note(figure)
    return figure


def reliability_figure(calibration: Mapping[str, Any], titled: bool = True) -> Figure:
    """Accuracy against confidence, a point per bin, and below it how many cases each bin holds.

    Without title and note for a page that has both.
    """
    figure = Figure(figsize=(5, 6), layout="constrained")
    above, below = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    confidence, accuracy, count = (
        [row[name] for row in calibration["bins"]] for name in ("confidence", "accuracy", "count")
    )
    above.plot([0, 1], [0, 1], color="grey", linestyle="--", label="perfectly calibrated")
    # stems to the diagonal: what is missing, or too much; a line from bin to bin would mean nothing
    above.vlines(confidence, confidence, accuracy, color=BLUE, alpha=0.4)
    above.scatter(confidence, accuracy, color=BLUE, label="model, per bin", clip_on=False, zorder=3)
    above.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    if titled:
        above.set_title(f"Reliability, expected calibration error {calibration['ece']:.3f}", pad=12)
        _note(figure)
    figure.legend(loc="outside upper center", ncols=2, fontsize=8, frameon=False)  # over no point
    bars = below.bar(confidence, count, width=0.04, color=BLUE)
    below.bar_label(bars, fontsize=8)
    below.set(xlabel="confidence", ylabel="cases")
    below.margins(y=0.25)
    return figure


def _note(figure: Figure) -> None:
    figure.supxlabel(NOTE, x=0.01, ha="left", fontsize=7)


def attention_pictures(cfg: Any, weights: Path, temperature: float = 1.0) -> Any:
    """Per test image its name and a BGR picture: what the network saw, and Grad-CAM of its likeliest class over it.

    Logits are divided by ``temperature``.
    """
    from mmdet.registry import DATASETS

    from covidmm.engine.checkpointing import load_trained
    from covidmm.models.grad_cam import GradCam

    explain = GradCam(load_trained(cfg, weights)[0], temperature)
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    for item in dataset:
        scores, heat = explain(item["inputs"])
        chosen = int(scores.argmax())
        image = np.ascontiguousarray(item["inputs"].numpy().transpose(1, 2, 0))
        sample = item["data_samples"]
        truth = [name for name, value in zip(dataset.metainfo["classes"], sample.target, strict=True) if value]
        caption = f"{dataset.metainfo['classes'][chosen]} {scores[chosen]:.2f} (true: {', '.join(truth) or 'none'})"
        yield Path(sample.img_path).stem, _overlay(image, heat, caption)


def _overlay(image: NDArray[np.uint8], heat: NDArray[np.float32], caption: str) -> NDArray[np.uint8]:
    """The image, the image under the heat, and two lines of text below them."""
    side = 448
    image = cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC)
    scaled = cv2.resize(heat, (side, side))[..., None] / max(float(heat.max()), 1e-12)
    colours = matplotlib.colormaps["inferno"](scaled[..., 0])[..., 2::-1] * 255
    # where the network did not look, the radiograph stays as it is
    mixed = (image * (1 - 0.6 * scaled) + colours * 0.6 * scaled).astype(np.uint8)
    sheet = cv2.copyMakeBorder(np.concatenate([image, mixed], 1), 0, 48, 0, 0, cv2.BORDER_CONSTANT)
    cells = "x".join(map(str, heat.shape))
    lines = f"Grad-CAM: {caption}", f"A map of {cells} cells, stretched over what the network saw. {NOTE}"
    for row, text in enumerate(lines):
        place = (6, side + 19 + 20 * row)
        cv2.putText(sheet, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.47, (255,) * 3, 1, cv2.LINE_AA)
    return sheet
