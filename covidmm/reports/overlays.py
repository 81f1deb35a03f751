"""Cases as vector pictures: a radiograph once, and the truth and each detector drawn over it side by side."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from covidmm import radiograph
from covidmm.errors import RadiographError
from covidmm.evaluation.detection import match
from covidmm.reports.detections import Comparison
from covidmm.reports.drawn_images import Case
from covidmm.reports.figures.style import Drawn
from covidmm.reports.grid import PREDICTION, TRUTH

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
    """A case with its views: truth, each member, the final detector."""

    kind: str
    case: Case
    picture: str
    """SVG definition of the radiograph."""
    tiles: Sequence[Tile]
    size: tuple[int, int]

    @property
    def caption(self) -> str:
        """Class, and counts of the final detector, for people."""
        found, false, missed = self.case.counts
        parts = (self.case.study_class, f"{self.tiles[-1].label}: {found} found", f"{missed} missed", f"{false} false")
        return ", ".join(part for part in parts if part)


def case_rows(found: Comparison, each: int = _EACH) -> list[Row]:
    """The cases of a comparison that are worth a look, drawn.

    Args:
        found: the detectors.
        each: how many of every kind at most.
    """
    rows = []
    for number, (kind, case) in enumerate(found.cases(each), start=1):
        name = f"picture-{_slug(found.name)}-{number}"
        picture, size = _picture(case, name)
        tiles = [Tile("truth", _tile(name, case, size, case.truth))]
        for detector in found.found:
            boxes, scores = found.above(detector, case.image["index"])
            hits = match(boxes, scores, case.truth)
            tiles.append(Tile(detector, _tile(name, case, size, case.truth, boxes, scores, hits)))
        rows.append(Row(kind, case, picture, tiles, size))
    return rows


def sheet(found: Comparison, rows: Sequence[Row]) -> Drawn:
    """All rows on one SVG, and what is in them as a table."""
    side, gap, head = 300, 12, 34
    width = gap + len(rows[0].tiles) * (side + gap)
    parts = [row.picture for row in rows]
    for down, row in enumerate(rows):
        y = gap + down * (side + head + gap)
        text = escape(f"{row.kind}: {row.case.name}, {row.caption}")
        parts.append(f'<text x="{gap}" y="{y + 14}" font-size="13" fill="currentColor">{text}</text>')
        for across, tile in enumerate(row.tiles):
            x = gap + across * (side + gap)
            label = f'<text x="{x}" y="{y + 30}" font-size="11" fill="currentColor">{escape(tile.label)}</text>'
            place = f'<svg x="{x}" y="{y + head}" width="{side}" height="{side}" '
            parts += [label, tile.svg.replace("<svg ", place, 1)]
    height = gap + len(rows) * (side + head + gap)
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">'
        f"{''.join(parts)}</svg>"
    )
    columns = ("kind", "image", "study_class", "found", "false", "missed", "f1")
    table = [(row.kind, row.case.name, row.case.study_class, *_counts(row.case)) for row in rows]
    return Drawn(f"cases_{_slug(found.name)}", f"Cases of {found.name}", "", svg, columns, table)


def _counts(case: Case) -> tuple[Any, ...]:
    return (*case.counts, round(case.f1, 4))


def _picture(case: Case, name: str) -> tuple[str, tuple[int, int]]:
    """The radiograph as an SVG definition, and its size; a grey field where it cannot be read."""
    try:
        pixels = radiograph.resize_longer(radiograph.read(case.path).pixels, _SIDE)
    except (RadiographError, OSError):
        scale = _SIDE / max(case.image["width"], case.image["height"])
        width, height = round(case.image["width"] * scale), round(case.image["height"] * scale)
        missing = f'<text x="20" y="60" font-size="32" fill="#fff">{escape(case.path.name)} cannot be read</text>'
        field = f'<rect width="{width}" height="{height}" fill="#444"/>'
        return f'<defs><g id="{name}">{field}{missing}</g></defs>', (width, height)
    _, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    height, width = pixels.shape
    data = base64.b64encode(encoded.tobytes()).decode()
    image = f'<image id="{name}" width="{width}" height="{height}" href="data:image/jpeg;base64,{data}"/>'
    return f"<defs>{image}</defs>", (width, height)


def _tile(
    name: str,
    case: Case,
    size: tuple[int, int],
    truth: NDArray[np.float64],
    boxes: NDArray[np.float64] | None = None,
    scores: Sequence[float] | NDArray[np.float64] = (),
    hits: Sequence[bool] | NDArray[np.bool_] = (),
) -> str:
    width, height = size
    scale = np.array([width / case.image["width"], height / case.image["height"]] * 2)
    parts = [f'<use href="#{name}"/>']
    parts += [_outline(box, TRUTH, 3.5 if boxes is None else 2.5) for box in truth * scale]
    if boxes is not None:
        for box, score, hit in zip(boxes * scale, scores, hits, strict=True):
            parts += [_outline(box, PREDICTION, 2, dashed=not hit), _score(box, score, size)]
    shown = f"{case.name}: {len(truth)} true boxes" + ("" if boxes is None else f", {len(boxes)} predicted")
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(shown)}">{"".join(parts)}</svg>'


def _outline(box: NDArray[np.float64], colour: str, stroke: float, dashed: bool = False) -> str:
    """A rectangle with a dark rim, whose lines stay as wide however large the picture is shown."""
    x1, y1, x2, y2 = (round(float(value), 1) for value in box)
    shape = f'x="{x1}" y="{y1}" width="{max(0.0, x2 - x1):.1f}" height="{max(0.0, y2 - y1):.1f}" fill="none"'
    shape += ' vector-effect="non-scaling-stroke"' + (' stroke-dasharray="7 5"' if dashed else "")
    rim = f'<rect {shape} stroke="#000" stroke-opacity=".6" stroke-width="{stroke + 2}"/>'
    return f'{rim}<rect {shape} stroke="{colour}" stroke-width="{stroke}"/>'


def _score(box: NDArray[np.float64], score: float, size: tuple[int, int]) -> str:
    letters = max(size) / 24
    x = min(float(box[0]) + letters / 4, size[0] - 2.4 * letters)
    y = max(float(box[1]) - letters / 4, letters)
    look = 'fill="#fff" stroke="#000" stroke-width="4" paint-order="stroke" font-weight="600"'
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{letters:.0f}" {look}>{score:.2f}</text>'


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "_-" else "_" for letter in name)
