"""Boxes on radiographs: what is drawn is decided once, as marks, and rendered to pixels or to SVG."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from covidmm.reports.drawn_images import DrawnImage
from covidmm.reports.looks import (
    CORNERS,
    CROWD,
    FALSE_POSITIVE,
    FOUND,
    MISSED,
    TRUTH,
    Look,
    class_legend,
    member_look,
    neutral,
    of_class,
    role_legend,
)
from covidmm.utils.boxes import in_pixels, normalised

#: x1 y1 x2 y2.
Box = Sequence[float]

# Of a dash and the gap after it, in strokes.
_DASH, _GAP = 4, 3
# Pixels of the screen in SVG.
_SVG_STROKE = 2


@dataclass(frozen=True)
class Mark:
    """One box: x1 y1 x2 y2 as shares of the picture, its look, and a label that may be empty."""

    box: Box
    look: Look
    label: str = ""


@dataclass(frozen=True)
class Tag:
    """A label on its ground, in pixels of the picture."""

    area: Box
    text: str
    look: Look


def marks(image: DrawnImage, member_scores: bool = False) -> list[Mark]:
    """Everything that is drawn on a radiograph, in order: truth, members, predictions with their scores.

    Of several classes a box has its class's look and name; one of a member has the member's number.
    """
    truth = zip(image.truth.boxes, image.missed, image.truth.labels, strict=True)
    drawn = [_mark(box, image, CROWD, "crowd") for box in image.truth.crowds]
    for box, missed, label in truth:
        drawn.append(_mark(box, image, _look(image, MISSED if missed else TRUTH, label), _class(image, label)))
    for number, found in enumerate(image.members.values()):
        for box, score, label in zip(found.boxes, found.scores, found.labels, strict=True) if found else ():
            parts = [str(number + 1)] if image.several else []
            parts += [f"{score:.2f}"] if member_scores else []
            drawn.append(_mark(box, image, _look(image, member_look(number), label), " ".join(parts)))
    found = image.found
    hits = np.ones(len(found), bool) if image.hits is None else image.hits
    ignored = np.zeros(len(found), bool) if image.ignored is None else image.ignored
    for box, score, label, hit, out in zip(found.boxes, found.scores, found.labels, hits, ignored, strict=True):
        look = CROWD if out and not hit else _look(image, FOUND if hit else FALSE_POSITIVE, label)
        drawn.append(_mark(box, image, look, f"{_class(image, label)} {score:.2f}".strip()))
    return drawn


def _class(image: DrawnImage, label: int) -> str:
    """The name of a class, where there are several."""
    return image.classes[label] if image.several else ""


def _look(image: DrawnImage, role: Look, label: int) -> Look:
    """A role's look, of its class where there are several."""
    return of_class(role, int(label)) if image.several else role


def legend(images: Sequence[DrawnImage]) -> list[tuple[str, Look]]:
    """What each look on pictures of the same detectors and classes stands for."""
    first, compared = images[0], any(image.hits is not None for image in images)
    members = [
        (f"{number + 1} {name}" if first.several else name, member_look(number))
        for number, name in enumerate(first.members)
        if any(image.members.get(name) is not None for image in images)
    ]
    kind = "ensemble" if first.members else "prediction"
    if compared:
        looks = role_legend(kind, members, any(len(image.truth.crowds) for image in images))
    else:
        looks = [*members, (kind, FOUND)] if any(len(image.found) for image in images) else members
    if not first.several:
        return looks
    sets = [part.labels for image in images for part in (image.truth, image.found, *image.members.values()) if part]
    return [*neutral(looks), *class_legend(first.classes, {int(label) for own in sets for label in own})]


def shown_size(pixels: NDArray[np.uint8], longer: int) -> tuple[int, int]:
    """(width, height) of a picture whose longer side is to have so many pixels."""
    height, width = pixels.shape[:2]
    scale = longer / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def render(
    pixels: NDArray[np.uint8],
    drawn: Sequence[Mark],
    longer: int,
    canvas: tuple[int, int] | None = None,
    ground: str = "#000000",
) -> Image.Image:
    """A radiograph with its marks as pixels.

    Args:
        pixels: (H, W) grey values, or (H, W, 3) RGB.
        drawn: what is drawn on it.
        longer: its longer side in the picture, in pixels; smaller radiographs are enlarged.
        canvas: (width, height) that the radiograph is put into the middle of, where labels may leave it.
        ground: the colour beside it.
    """
    shown = Image.fromarray(pixels).resize(shown_size(pixels, longer), Image.Resampling.LANCZOS)
    picture = Image.new("RGB", canvas or shown.size, ground)
    offset = (picture.width - shown.width) // 2, (picture.height - shown.height) // 2
    picture.paste(shown, offset)
    pen = ImageDraw.Draw(picture)
    stroke = max(2, round(longer / 300))
    placed = [(mark, _placed(mark, shown.size, stroke + 1, offset)) for mark in drawn]
    for mark, box in placed:
        outline(pen, box, mark.look, stroke)
    letters = font(round(9 + longer / 85))
    for tag in _tags(placed, picture.size, letters):
        x1, y1, x2, y2 = tag.area
        pen.rectangle([x1, y1, x2 - 1, y2 - 1], fill=tag.look.colour)
        pen.text(((x1 + x2) / 2, (y1 + y2) / 2), tag.text, tag.look.ink, letters, anchor="mm")
    return picture


def svg(drawn: Sequence[Mark], size: tuple[int, int]) -> str:
    """Marks as SVG elements over a picture of ``size`` (width, height); lines stay as wide however it is enlarged."""
    placed = [(mark, _placed(mark, size, 0)) for mark in drawn]
    parts = [_svg_outline(box, mark.look, max(size) / 140) for mark, box in placed]
    letters = font(round(max(size) / 26))
    for tag in _tags(placed, size, letters):
        x1, y1, x2, y2 = tag.area
        parts.append(
            f'<rect x="{x1}" y="{y1}" width="{x2 - x1}" height="{y2 - y1}" fill="{tag.look.colour}"/>'
            f'<text x="{(x1 + x2) / 2}" y="{(y1 + y2) / 2}" font-size="{letters.size}" fill="{tag.look.ink}" '
            f'text-anchor="middle" dominant-baseline="central">{escape(tag.text)}</text>'
        )
    return "".join(parts)


def svg_key(look: Look) -> str:
    """A look as an SVG of 36 x 24 pixels on a dark ground, for a legend."""
    box = _svg_outline((7, 6, 29, 18), look, 1.2)
    ground = '<rect width="36" height="24" rx="3" fill="#14171A"/>'
    return f'<svg width="36" height="24" viewBox="0 0 36 24" aria-hidden="true">{ground}{box}</svg>'


def svg_legend(entries: Sequence[tuple[str, Look]], width: int, size: int) -> tuple[str, int]:
    """A legend as SVG elements, in as many rows as it needs, and its height.

    Args:
        entries: texts and their looks.
        width: of the whole, in pixels.
        size: of the letters, in pixels; keys grow with them.
    """
    parts, x, row = [], 0, 0
    for text, look in entries:
        wide = round(2.8 * size + font(size).getlength(text))
        if x and x + wide > width:
            x, row = 0, row + 1
        y = 2 * size * row
        place = f'x="{x}" y="{y}" width="{2.4 * size:g}" height="{1.6 * size:g}"'
        parts.append(svg_key(look).replace('width="36" height="24"', place, 1))
        where = f'x="{x + 2.8 * size:g}" y="{y + 1.1 * size:g}"'
        parts.append(f'<text {where} font-size="{size}" fill="currentColor">{escape(text)}</text>')
        x += wide + size
    return "".join(parts), 2 * size * (row + 1)


def outline(pen: ImageDraw.ImageDraw, box: Box, look: Look, stroke: float) -> None:
    """Draw an outline centred on the edges of a box in pixels, with a rim that keeps it visible on any grey."""
    width = max(1, round(look.width * stroke))
    # a dash grows by the width of its line
    dash, gap = _DASH * stroke, _GAP * stroke + width - stroke
    for rim, paint in ((1, look.rim), (0, look.colour)):
        low = width // 2 + rim
        high = width + 2 * rim - 1 - low
        for x1, y1, x2, y2 in _dashes(box, dash, gap) if look.dashed else [box]:
            grown = [x1 - low, y1 - low, x2 + high, y2 + high]
            pen.rectangle(grown, outline=paint, fill=paint if look.dashed else None, width=width + 2 * rim)
    for shape in _corner_shapes(box, look, stroke):
        pen.polygon(shape, look.colour, look.rim)


@lru_cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(mpl.get_data_path(), "fonts", "ttf", name)), size)


def with_heat(pixels: NDArray[np.uint8], heat: NDArray, region: Sequence[float] = (0, 0, 1, 1)) -> NDArray[np.uint8]:
    """A radiograph under a map of heat; where the map is 0 it stays as it is.

    Args:
        pixels: (H, W) grey values.
        heat: (h, w), 0..1, stretched over the region.
        region: x1 y1 x2 y2, what the map covers as shares of width and height.

    Returns:
        (H, W, 3) RGB.
    """
    height, width = pixels.shape
    x1, y1, x2, y2 = np.round(in_pixels([region], (height, width))[0]).astype(int).tolist()
    shown = np.zeros((height, width), np.float32)
    if x2 > x1 and y2 > y1:
        stretched = Image.fromarray(heat.astype(np.float32)).resize((x2 - x1, y2 - y1), Image.Resampling.BILINEAR)
        shown[y1:y2, x1:x2] = np.asarray(stretched)
    colours = mpl.colormaps["inferno"](shown)[..., :3] * 255
    strength = 0.6 * shown[..., None]
    return (pixels[..., None] * (1 - strength) + colours * strength).astype(np.uint8)


def _mark(box: ArrayLike, image: DrawnImage, look: Look, label: str = "") -> Mark:
    return Mark(normalised([box], image.size)[0].tolist(), look, label)


def _placed(mark: Mark, size: tuple[int, int], margin: int, offset: tuple[int, int] = (0, 0)) -> list[int]:
    """The box of a mark in whole pixels, so far inside the picture that its outline is seen."""
    width, height = size
    edge = np.maximum(np.array([width, height] * 2) - 1 - margin, 0)
    box = np.clip(np.round(in_pixels([mark.box], (height, width))[0]), np.minimum(margin, edge), edge)
    return (box + np.array(offset * 2)).astype(int).tolist()


def _dashes(box: Box, dash: float, gap: float) -> Iterator[Box]:
    """Dashes along the four edges; every edge begins and ends with one, so that corners are closed."""
    x1, y1, x2, y2 = box
    for low, high, across in ((x1, x2, True), (y1, y2, False)):
        pieces = max(1, round((high - low + gap) / (dash + gap)))
        pitch = (high - low + gap) / pieces
        for k in range(pieces):
            start = round(low + k * pitch)
            stop = min(high, round(low + k * pitch + pitch - gap))
            if across:
                yield from ((start, y, max(start, stop), y) for y in (y1, y2))
            else:
                yield from ((x, start, x, max(start, stop)) for x in (x1, x2))


def _tags(
    placed: Sequence[tuple[Mark, list[int]]], size: tuple[int, int], letters: ImageFont.FreeTypeFont
) -> Iterator[Tag]:
    """A tag per label, at the place around its box where it hides least of the other tags, at a corner if it can."""
    taken = np.zeros((0, 4), int)
    for mark, (x1, y1, x2, y2) in sorted(placed, key=lambda entry: -entry[0].look.width):  # those of members last
        if not mark.label:
            continue
        width, height = own = np.array(
            [round(letters.getlength(mark.label) + 0.4 * letters.size), round(1.3 * letters.size)]
        )
        rows = y1 - height, y2, y1, y2 - height, y1 - 2 * height, y2 + height
        columns = x1, x2 - width, *range(x1 + width, x2 - width, width)
        places = [(x, y) for y in rows[:4] for x in columns[:2]] + [(x, y) for y in rows for x in columns]
        low = np.clip(places, 0, np.maximum(np.array(size) - own, 0))
        areas = np.concatenate([low, low + own], axis=1)
        shared = np.minimum(areas[:, None, 2:], taken[:, 2:]) - np.maximum(areas[:, None, :2], taken[:, :2])
        area = areas[np.clip(shared, 0, None).prod(axis=2).sum(axis=1).argmin()]
        taken = np.concatenate([taken, area[None]])
        yield Tag(area.tolist(), mark.label, mark.look)


def _corner_shapes(box: Box, look: Look, stroke: float) -> Iterator[list[tuple[float, float]]]:
    """The corners of a polygon at each corner of a box; none where a look has no shape."""
    scale = stroke * max(1, look.width**0.5)
    for x, y in itertools.product(box[::2], box[1::2]) if look.corners else ():
        yield [(round(x + scale * dx, 1), round(y + scale * dy, 1)) for dx, dy in CORNERS[look.corners]]


def _svg_outline(box: Box, look: Look, stroke: float) -> str:
    x1, y1, x2, y2 = box
    width = round(look.width * _SVG_STROKE, 1)
    shape = f'x="{x1}" y="{y1}" width="{x2 - x1}" height="{y2 - y1}" fill="none"'
    dash = f' stroke-dasharray="{_DASH * _SVG_STROKE} {_GAP * _SVG_STROKE}"' if look.dashed else ""
    shape += f' vector-effect="non-scaling-stroke"{dash}'
    dark = 'stroke="#000" stroke-opacity=".6"' if look.rim == "#000000" else f'stroke="{look.rim}"'
    rim = f'<rect {shape} {dark} stroke-width="{width + 2}"/>'
    corners = "".join(
        f'<path d="M{"L".join(f"{x} {y}" for x, y in polygon)}Z" fill="{look.colour}" stroke="{look.rim}"/>'
        for polygon in _corner_shapes(box, look, stroke)
    )
    return f'{rim}<rect {shape} stroke="{look.colour}" stroke-width="{width}"/>{corners}'
