"""Pictures of predictions against truth: single radiographs, and a sheet of many."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from covidmm.errors import DataError
from covidmm.evaluation.detection import match

#: Okabe and Ito's colours, told apart with every kind of colour vision.
TRUTH, FOUND, FALSE = "#56B4E9", "#E69F00", "#D55E00"
FOOTER = "covidmm: research software, not a medical device"


@dataclass(frozen=True)
class Case:
    """One image with its truth and predictions: boxes (N, 4) x1 y1 x2 y2 in pixels, scores (N,)."""

    path: Path
    image: Mapping[str, Any]
    truth: NDArray[np.float64]
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    hits: NDArray[np.bool_]

    @property
    def caption(self) -> str:
        """Identifier, study class and counts."""
        name = str(self.image.get("image_id", self.path.stem))
        study_class = self.image.get("study_class")
        found = int(self.hits.sum())
        counts = f"{found} found, {len(self.truth) - found} missed, {len(self.boxes) - found} false"
        return f"{name}{f', {study_class}' if study_class else ''}\n{counts}"


def read_cases(
    images: str | Path, coco: Mapping[str, Any], predictions: Sequence[Mapping[str, Any]], threshold: float
) -> list[Case]:
    """Join a COCO file with a COCO results list; predictions below ``threshold`` are left out."""
    cases = []
    for image in coco["images"]:
        truth = _corners(a["bbox"] for a in coco["annotations"] if a["image_id"] == image["id"])
        kept = [p for p in predictions if p["image_id"] == image["id"] and p["score"] >= threshold]
        boxes, scores = _corners(p["bbox"] for p in kept), np.array([p["score"] for p in kept], float)
        hits = match(boxes, scores, truth)
        cases.append(Case(Path(images, image["file_name"]), image, truth, boxes, scores, hits))
    return cases


def draw_show_dir(
    folder: str | Path, dataset: Mapping[str, Any], predictions: str | Path, threshold: float, title: str
) -> None:
    """Draw every image of a split into ``folder``, and twelve of them on ``grid.png``.

    Args:
        folder: made where it is missing.
        dataset: the split's config, with ``data_root`` and ``ann_file``.
        predictions: a COCO results list, as JSON.
        threshold: predictions below it are not drawn.
        title: the name of the detector.
    """
    root = Path(dataset["data_root"])
    coco = json.loads((root / dataset["ann_file"]).read_text())
    cases = read_cases(root / "images", coco, json.loads(Path(predictions).read_text()), threshold)
    for case in cases:
        draw_case(case, Path(folder, f"{case.path.stem}.png"))
    draw_grid(cases, Path(folder, "grid.png"), f"{title}, boxes of confidence {threshold:.2f} and above")


def draw_grid(cases: Sequence[Case], out: str | Path, title: str, columns: int = 4, rows: int = 3) -> None:
    """Draw a sheet of cases, spread evenly over the study classes, as PNG.

    Args:
        cases: all images of a split.
        out: the file to write.
        title: what it shows.
        columns, rows: tiles of the sheet.

    Raises:
        DataError: there is no case to draw, or an image is missing.
    """
    if not cases:
        raise DataError(f"{out}: no image to draw")
    chosen = _spread(cases, columns * rows)
    rows = -(-len(chosen) // columns)
    figure = Figure(figsize=(3.2 * columns, 3.55 * rows + 1.0), dpi=110, facecolor="white", layout="constrained")
    figure.suptitle(title, fontsize=15, fontweight="bold")
    axes = np.array(figure.subplots(rows, columns, squeeze=False)).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, case in zip(axes, chosen, strict=False):
        _draw(axis, case, text_size=9)
    handles = [
        Rectangle((0, 0), 1, 1, fill=False, edgecolor=colour, linewidth=2, linestyle=style)
        for colour, style in ((TRUTH, "--"), (FOUND, "-"), (FALSE, "-"))
    ]
    figure.legend(
        handles,
        ["truth", "found (IoU above 0.5)", "false alarm"],
        loc="outside lower center",
        ncols=3,
        frameon=False,
        title=FOOTER,
    )
    _save(figure, out)


def draw_case(case: Case, out: str | Path) -> None:
    """Draw one radiograph with truth and predictions, as PNG."""
    height, width = case.image["height"], case.image["width"]
    figure = Figure(figsize=(7, 7 * height / width + 0.8), dpi=110, facecolor="white", layout="constrained")
    axis = figure.subplots()
    axis.set_axis_off()
    _draw(axis, case, text_size=11)
    figure.text(0.5, 0.002, f"dashed blue: truth; {FOOTER}", ha="center", va="bottom", fontsize=8, color="#555555")
    _save(figure, out)


def _draw(axis: Any, case: Case, text_size: int) -> None:
    pixels = cv2.imread(str(case.path), cv2.IMREAD_GRAYSCALE)
    if pixels is None:
        raise DataError(f"{case.path}: missing or no picture")
    axis.imshow(pixels, cmap="gray", vmin=0, vmax=255)
    axis.set_title("\n".join(textwrap.wrap(case.caption, 40, replace_whitespace=False)), fontsize=text_size)
    for box in case.truth:
        _box(axis, box, TRUTH, "--")
    for box, score, hit in zip(case.boxes, case.scores, case.hits, strict=True):
        colour = FOUND if hit else FALSE
        _box(axis, box, colour, "-")
        label = {"facecolor": colour, "edgecolor": "none", "pad": 1.5}
        axis.text(box[0], box[1], f"{score:.2f}", color="black", fontsize=text_size, va="bottom", bbox=label)


def _box(axis: Any, box: NDArray, colour: str, style: str) -> None:
    x1, y1, x2, y2 = box
    axis.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=2, linestyle=style))


def _save(figure: Figure, out: str | Path) -> None:
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.part")
    with mpl.rc_context({"font.family": "DejaVu Sans"}):
        figure.savefig(part, format="png")
    part.replace(out)


def _spread(cases: Sequence[Case], count: int) -> list[Case]:
    """Take turns among the study classes, in the order of the file."""
    queues: dict[Any, list[Case]] = {}
    for case in cases:
        queues.setdefault(case.image.get("study_class"), []).append(case)
    chosen: list[Case] = []
    while len(chosen) < min(count, len(cases)):
        for queue in queues.values():
            if queue and len(chosen) < count:
                chosen.append(queue.pop(0))
    return sorted(chosen, key=lambda case: case.image["id"])


def _corners(boxes: Any) -> NDArray[np.float64]:
    found = np.array(list(boxes), float).reshape(-1, 4)
    found[:, 2:] += found[:, :2]
    return found
