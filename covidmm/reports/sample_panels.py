"""Sample panels of a data set: some radiographs of every class with their true boxes, as one figure."""

from __future__ import annotations

from html import escape

import numpy as np

from covidmm.datasets.annotated_image import AnnotatedImage
from covidmm.datasets.prepared_folder import PreparedFolder, PreparedSplit
from covidmm.findings import Detections
from covidmm.reports.drawing import legend, svg_legend
from covidmm.reports.drawn_images import DrawnImage
from covidmm.reports.figures.style import Drawn
from covidmm.reports.overlays import picture_definition, picture_view
from covidmm.reports.pages import slug

# Chosen here: four to a row fit a phone, and a picture takes some 10 kB.
_EACH, _SIDE, _GAP, _HEAD = 4, 256, 8, 44


def sample_panels(data: PreparedFolder, each: int = _EACH, seed: int = 0) -> Drawn:
    """A row of radiographs for every class, the most frequent first, drawn by lot from all splits.

    An image with several labels stands in the row of each that draws it. Boxes are the true ones.

    Args:
        data: the folder.
        each: how many of a class at most.
        seed: of the draw.
    """
    places = [(image, split) for split in data.splits.values() for image in split.images]
    order = np.random.default_rng(seed).permutation(len(places))
    rows: dict[str, list[tuple[AnnotatedImage, PreparedSplit]]] = {}
    for place in order:
        for name in places[place][0].classes:
            rows.setdefault(name, []).append(places[place])
    parts, table, drawn = [], [], []
    ordered = sorted(rows, key=lambda name: (-len(rows[name]), name))
    for down, name in enumerate(ordered):
        y = down * (_SIDE + _HEAD + _GAP)
        text = escape(f"{name}: {len(rows[name])} images")
        parts.append(f'<text x="0" y="{y + 32}" font-size="28" fill="currentColor">{text}</text>')
        for across, (image, split) in enumerate(rows[name][:each]):
            number = f"sample-{slug(data.name)}-{down}-{across}"
            drawn.append(_drawn(image, split))
            parts += _panel(drawn[-1], number, across * (_SIDE + _GAP), y + _HEAD)
            table.append((name, image.split, image.image_id, image.coco["file_name"], len(image.boxes)))
    width, height = each * (_SIDE + _GAP) - _GAP, len(ordered) * (_SIDE + _HEAD + _GAP)
    if drawn and drawn[0].several:
        keys, below = svg_legend(legend(drawn), width, 22)
        parts.append(f'<g transform="translate(0 {height + _GAP})">{keys}</g>')
        height += below + _GAP
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">'
    caption = "Drawn by lot from all splits, with the true boxes. An image with several labels may stand in each row."
    columns = ("class", "split", "image", "file", "boxes")
    title = f"{data.name}: samples of every class"
    return Drawn(f"samples_{data.name}", title, caption, f"{opening}{''.join(parts)}</svg>", columns, table)


def _drawn(image: AnnotatedImage, split: PreparedSplit) -> DrawnImage:
    return DrawnImage(
        name=image.image_id,
        size=image.size or (1, 1),
        found=Detections.none(),
        truth=image.truth,
        path=image.path,
        classes=split.categories,
    )


def _panel(drawn: DrawnImage, name: str, x: int, y: int) -> list[str]:
    """The definition of a radiograph, and the square at x, y that shows it with its boxes."""
    definition, size = picture_definition(drawn, name, _SIDE)
    place = f'<svg x="{x}" y="{y}" width="{_SIDE}" height="{_SIDE}" '
    return [definition, picture_view(name, drawn, size).replace("<svg ", place, 1)]
