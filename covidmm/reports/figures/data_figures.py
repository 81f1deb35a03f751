"""Figures of a data set: classes, boxes, sizes, and fields of the files' headers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from pydicom.uid import UID

from covidmm.datasets.prepared_folder import PreparedFolder
from covidmm.datasets.unprepared import UNDIVIDED
from covidmm.prepare.splits import SPLITS
from covidmm.reports.figures.style import PALETTE, VERMILLION, Drawn, draw

#: Stands for width and height together.
SIZE = "size"
#: Ages are counted by decades.
AGE = "age"
#: As in the histogram of the report (docs/references.md).
_BINS = 100
_COLOURS = dict(zip((*SPLITS, UNDIVIDED), PALETTE, strict=False))
_HATCHES = dict(zip((*SPLITS, UNDIVIDED), ("", "///", "xx", ""), strict=True))


def class_figure(data: PreparedFolder) -> Drawn:
    """Images of every class, by split, the most frequent first, with the mean of the classes."""
    counts = {name: split.class_counts() for name, split in data.splits.items()}
    totals = sum(counts.values(), Counter())
    classes = [name for name, _ in totals.most_common()]
    mean = sum(totals.values()) / max(1, len(classes))
    names = [_short(name) for name in classes]

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        left = np.zeros(len(classes))
        for split, own in counts.items():
            widths = np.array([own[name] for name in classes])
            look = {"color": _COLOURS[split], "hatch": _HATCHES[split], "edgecolor": "white", "linewidth": 0}
            axes.barh(names, widths, left=left, label=split, **look)
            left += widths
        for place, total in enumerate(left):
            axes.annotate(f" {total:.0f}", (total, place), va="center", fontsize=9)
        if len(classes) > 1:
            axes.axvline(mean, color=VERMILLION, linestyle="--", linewidth=1.2)
            axes.annotate(f"mean {mean:.0f}", (mean, 1), (3, 1), ("data", "axes fraction"), "offset points", fontsize=8)
        axes.invert_yaxis()
        axes.set_xlabel("images")
        axes.margins(x=0.12)
        axes.grid(axis="y", visible=False)
        figure.legend(loc="outside lower center", ncols=3)

    rows = [(name, *(counts[split][name] for split in counts), totals[name]) for name in classes]
    return draw(
        f"classes_{data.name}",
        f"{data.name}: images per class",
        "An image with several labels counts for each of them." if data.multi_label else "",
        paint,
        ("class", *counts, "all"),
        rows,
        height=1.6 + 0.24 * max(4, len(classes)),
    )


def box_count_figure(data: PreparedFolder) -> Drawn:
    """How many images have how many boxes, on a logarithmic axis."""
    counts = Counter(len(image.boxes) for image in data.images)
    numbers = list(range(max(counts) + 1))

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        bars = axes.bar(numbers, [counts[number] for number in numbers], color=PALETTE[0])
        axes.bar_label(bars, [counts[number] or "" for number in numbers], fontsize=9)
        axes.set(xlabel="boxes on the image", ylabel="images", yscale="log")
        axes.set_ylim(0.7, 3 * max(counts.values()))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="x", visible=False)

    rows = [(number, counts[number]) for number in numbers]
    title = f"{data.name}: boxes per image"
    return draw(f"boxes_per_image_{data.name}", title, "Logarithmic axis.", paint, ("boxes", "images"), rows)


def box_area_figure(data: PreparedFolder) -> Drawn:
    """Areas of the boxes in pixels of the original images, 100 bins."""
    areas = data.box_areas()
    counts, edges = np.histogram(areas, bins=_BINS)

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.stairs(counts, edges / 1e3, fill=True, color=PALETTE[0])
        axes.axvline(float(np.median(areas)) / 1e3, color=VERMILLION, linestyle="--", linewidth=1.2, label="median")
        axes.set(xlabel="box area, 1,000 pixels of the original image", ylabel="boxes")
        axes.set_xlim(0)
        axes.legend()

    rows = [
        (f"{low:.0f}", f"{high:.0f}", int(count)) for low, high, count in zip(edges, edges[1:], counts, strict=False)
    ]
    caption = f"{len(areas)} boxes, median {np.median(areas):,.0f} pixels."
    columns = ("area_from", "area_to", "boxes")
    return draw(f"box_areas_{data.name}", f"{data.name}: box areas", caption, paint, columns, rows)


def size_figure(data: PreparedFolder) -> Drawn:
    """Widths and heights of the original images."""
    sizes = Counter(image.original_size[::-1] for image in data.images)

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        width, height = np.array(list(sizes)).T
        weights = 12 + 60 * np.array(list(sizes.values())) / max(sizes.values())
        axes.scatter(width, height, s=weights, alpha=0.5, color=PALETTE[0], linewidth=0)
        axes.set(xlabel="width, pixels", ylabel="height, pixels")
        axes.margins(0.1)

    rows = [(width, height, count) for (width, height), count in sizes.most_common()]
    caption = f"{len(sizes)} different sizes; a larger dot stands for more images."
    columns = ("width", "height", "images")
    return draw(f"sizes_{data.name}", f"{data.name}: size of the originals", caption, paint, columns, rows)


def data_figures(data: PreparedFolder) -> list[Drawn]:
    """Every figure that a prepared data set has something for."""
    figures = [class_figure(data)]
    if data.boxed:
        figures += [box_count_figure(data), box_area_figure(data)]
    return figures + ([size_figure(data)] if len(header_table(data, SIZE)) > 1 else [])


def header_table(data: PreparedFolder, field: str) -> Mapping[str, int]:
    """How often each value of a header field occurs, the most frequent first; ``not stated`` where it is missing.

    :data:`SIZE` stands for width and height of the originals. Transfer syntaxes have their names, ages are decades.
    """
    values = Counter(_value(image.coco, field) for image in data.images)
    return dict(values.most_common())


def _value(image: Mapping[str, Any], field: str) -> str:
    if field == SIZE:
        return f"{image['original_width']} x {image['original_height']}"
    if image.get(field) is None:
        return "not stated"
    if field == AGE and isinstance(image[field], int):
        decade = image[field] // 10 * 10
        return f"{decade} to {decade + 9}"
    return UID(str(image[field])).name if field == "transfer_syntax" else str(image[field])


def _short(name: str) -> str:
    return name if len(name) <= 20 else name.replace(" / ", "\n/ ").replace("_", "\n")
