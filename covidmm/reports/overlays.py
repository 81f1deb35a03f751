"""Cases as vector pictures: a radiograph once, and the truth and each detector drawn over it side by side."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

import cv2

from covidmm import radiograph
from covidmm.errors import RadiographError
from covidmm.findings import Detections
from covidmm.reports.detections import Comparison
from covidmm.reports.drawing import legend, marks, svg, svg_legend
from covidmm.reports.drawn_images import DrawnImage
from covidmm.reports.figures.style import Drawn
from covidmm.reports.looks import Look
from covidmm.reports.pages import slug

# The longer side of a picture in pixels, and its JPEG quality: chosen here, some 50 kB.
_SIDE, _QUALITY = 720, 82
_EACH = 2


@dataclass(frozen=True)
class Tile:
    """One view of a case: what it shows, and the SVG, which refers to the picture by its id."""

    label: str
    svg: str


@dataclass(frozen=True)
class Row:
    """A case with its views: truth, each member, the final detector.

    Attributes:
        kind: why it is shown.
        image: the radiograph with all its boxes.
        picture: SVG definition of the radiograph.
        tiles: the views.
        finding: the class by which it was chosen; empty where there is one.
    """

    kind: str
    image: DrawnImage
    picture: str
    tiles: Sequence[Tile]
    finding: str = ""

    @property
    def reason(self) -> str:
        """Why it is shown: the kind, and of which class."""
        return f"{self.kind}, {self.finding}" if self.finding else self.kind

    @property
    def caption(self) -> str:
        """Class, and counts of the final detector."""
        parts = (self.image.study_class, f"{self.tiles[-1].label}: {_counts(self.image)}")
        text = ", ".join(part for part in parts if part)
        if not self.finding:
            return text
        return f"{text}; of {self.finding} {_counts(self.image.of_class(self.image.classes.index(self.finding)))}"


def case_rows(found: Comparison, each: int = _EACH) -> list[Row]:
    """The cases of a comparison that are worth a look, drawn.

    Args:
        found: the detectors.
        each: how many of every kind at most.
    """
    rows = []
    for number, (kind, image, finding) in enumerate(found.cases(each), start=1):
        name = f"picture-{slug(found.name)}-{number}"
        picture, size = picture_definition(image, name)
        alone = replace(image, members={})
        views = [("truth", replace(alone, found=Detections.none(), hits=None, ignored=None))]
        for detector, own in image.members.items():
            views.append((detector, alone.compared(own)))
        views.append((found.final, alone))
        tiles = [Tile(label, picture_view(name, view, size)) for label, view in views]
        rows.append(Row(kind, image, picture, tiles, finding))
    return rows


def _counts(image: DrawnImage) -> str:
    found, false, missed = image.counts
    return f"{found} found, {missed} missed, {false} false"


def class_looks(rows: Sequence[Row]) -> list[tuple[str, Look]]:
    """The legend of cases of several classes; nothing where there is one class."""
    views = []
    for row in rows:
        alone = replace(row.image, members={})
        views += [alone, *(replace(alone, found=own) for own in row.image.members.values() if own)]
    return legend(views) if views and views[0].several else []


def sheet(found: Comparison, rows: Sequence[Row]) -> Drawn:
    """All rows on one SVG, and what is in them as a table."""
    side, gap, head = 300, 12, 34
    width = gap + len(rows[0].tiles) * (side + gap)
    parts = [row.picture for row in rows]
    for down, row in enumerate(rows):
        y = gap + down * (side + head + gap)
        text = escape(f"{row.reason}: {row.image.name}, {row.caption}")
        parts.append(f'<text x="{gap}" y="{y + 14}" font-size="13" fill="currentColor">{text}</text>')
        for across, tile in enumerate(row.tiles):
            x = gap + across * (side + gap)
            label = f'<text x="{x}" y="{y + 30}" font-size="11" fill="currentColor">{escape(tile.label)}</text>'
            place = f'<svg x="{x}" y="{y + head}" width="{side}" height="{side}" '
            parts += [label, tile.svg.replace("<svg ", place, 1)]
    height = gap + len(rows) * (side + head + gap)
    if entries := class_looks(rows):
        keys, below = svg_legend(entries, width - 2 * gap, 13)
        parts.append(f'<g transform="translate({gap} {height})">{keys}</g>')
        height += below
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">'
    content = f"{opening}{''.join(parts)}</svg>"
    columns = ("kind", "finding", "image", "study_class", "found", "false", "missed", "f1")
    table = [
        (row.kind, row.finding, row.image.name, row.image.study_class, *row.image.counts, round(row.image.f1, 4))
        for row in rows
    ]
    return Drawn(f"cases_{found.name}", f"Cases of {found.name}", "", content, columns, table)


def picture_definition(image: DrawnImage, name: str, longer: int = _SIDE) -> tuple[str, tuple[int, int]]:
    """The radiograph as an SVG definition, and its (width, height); a grey field where it cannot be read.

    Args:
        image: whose file is read.
        name: the id that views refer to.
        longer: the longer side at most, in pixels.
    """
    try:
        pixels = radiograph.resize_longer(radiograph.read(image.path).pixels, longer)
    except (RadiographError, OSError):
        scale = longer / max(image.size)
        height, width = (round(side * scale) for side in image.size)
        missing = f'<text x="20" y="60" font-size="32" fill="#fff">{escape(image.path.name)} cannot be read</text>'
        field = f'<rect width="{width}" height="{height}" fill="#444"/>'
        return f'<defs><g id="{name}">{field}{missing}</g></defs>', (width, height)
    _, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    height, width = pixels.shape
    data = base64.b64encode(encoded.tobytes()).decode()
    content = f'<image id="{name}" width="{width}" height="{height}" href="data:image/jpeg;base64,{data}"/>'
    return f"<defs>{content}</defs>", (width, height)


def picture_view(name: str, image: DrawnImage, size: tuple[int, int]) -> str:
    """An SVG of a defined picture with the boxes of an image over it.

    Args:
        name: of the picture.
        image: whose boxes are drawn.
        size: (width, height) of the picture.
    """
    width, height = size
    predicted = "" if image.hits is None else f", {len(image.found)} predicted"
    shown = escape(f"{image.name}: {len(image.truth)} true boxes{predicted}")
    content = f'<use href="#{name}"/>{svg(marks(image), size)}'
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{shown}">{content}</svg>'
