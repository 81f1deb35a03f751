"""Pictures of predictions against truth, as PNG: single radiographs, and a sheet of many."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from covidmm import radiograph
from covidmm.errors import DataError
from covidmm.evaluation.detection import IOU_THRESHOLD
from covidmm.reports import NOTICE
from covidmm.reports.drawing import font, legend, marks, outline, render, shown_size
from covidmm.reports.drawn_images import DrawnImage, choose, drawn_images
from covidmm.utils.fileio import write_bytes

CRITERION = f"TP: a prediction whose IoU with a truth of its class is above {IOU_THRESHOLD:g}"
PAGE, TILE_PAGE, INK, FAINT = "#14171A", "#000000", "#F2F4F5", "#9AA3AB"

_MARGIN, _GAP = 28, 16
_LEGEND_ROW = 28


def draw_show_dir(
    folder: str | Path,
    files: Mapping[int, Path],
    annotations: str | Path,
    predictions: str | Path,
    threshold: float,
    title: str,
    classes: Sequence[str] | None = None,
    class_map: Mapping[str, str | None] | None = None,
    per_class: Mapping[str, float] | None = None,
) -> None:
    """Draw every image that was evaluated into ``folder``, and twelve of them on ``grid.png``.

    Args:
        folder: made where it is missing.
        files: of the images, by their number.
        annotations: the COCO file of their boxes.
        predictions: a COCO results list, as JSON.
        threshold: predictions below it are not drawn.
        title: the name of the detector.
        classes: that it was made to find, None for all categories; boxes of others are not drawn.
        class_map: name of a category -> name of the class.
        per_class: by class, the threshold where it is another one.

    Raises:
        CovidmmError: a file is missing or damaged.
    """
    images = drawn_images(files, Path(annotations), Path(predictions), threshold, classes, class_map, per_class)
    stems = Counter(Path(image.path).stem for image in images.values())
    named = {}
    for number, image in images.items():
        stem = Path(image.path).stem
        named[stem if stems[stem] == 1 else f"{stem}_{number}"] = image
    draw_all(named, Path(folder), f"{title}, {shown_boxes(threshold, per_class)}")


def shown_boxes(threshold: float, per_class: Mapping[str, float] | None) -> str:
    """Which boxes a picture shows, for its title."""
    return "boxes above the threshold of their class" if per_class else f"boxes of confidence {threshold:.2f} and above"


def draw_all(images: Mapping[str, DrawnImage], folder: Path, title: str) -> None:
    """Draw every image on ``<its key>.png``, and twelve of them on ``grid.png``.

    Raises:
        CovidmmError: an image is missing or damaged, or there is none.
    """
    for name, image in images.items():
        draw_image(image, folder / f"{name}.png")
    draw_sheet(choose(list(images.values()), 12), folder / "grid.png", title)


def draw_image(image: DrawnImage, out: Path, size: int = 900) -> None:
    """Draw one radiograph as :func:`picture_of` does.

    Raises:
        CovidmmError: the image is missing or damaged.
    """
    _save(picture_of(image, _pixels(image), size), out)


def picture_of(
    image: DrawnImage, pixels: NDArray[np.uint8], size: int = 900, member_scores: bool = False
) -> Image.Image:
    """One radiograph with its boxes, and below it name, study class, counts, legend and the notice.

    Args:
        image: what is drawn.
        pixels: (H, W) grey or (H, W, 3) RGB values of the radiograph.
        size: the longer side of the radiograph in the picture, in pixels.
        member_scores: whether boxes of members have their scores, too.
    """
    unit = size / 900
    width, height = shown_size(pixels, size)
    width = max(width, round(560 * unit))
    shown = render(pixels, marks(image, member_scores), size, (width, height), PAGE)
    gap = round(_GAP * unit)
    caption = _caption(image, width - 2 * gap, unit)
    key = _legend([image], width - 2 * gap, unit)
    page = Image.new("RGB", (width, height + caption.height + key.height + round(40 * unit)), PAGE)
    page.paste(shown, (0, 0))
    page.paste(caption, (gap, height))
    page.paste(key, (gap, height + caption.height))
    letters = font(round(13 * unit))
    ImageDraw.Draw(page).text((gap, page.height - round(20 * unit)), NOTICE, FAINT, letters, anchor="lm")
    return page


def draw_sheet(images: Sequence[DrawnImage], out: Path, title: str, columns: int = 4, tile: int = 360) -> None:
    """Draw images on one sheet, row by row, as PNG.

    Args:
        images: those to draw, in order.
        out: the file to write.
        title: what the sheet shows.
        columns: images in a row.
        tile: width and height of a radiograph's square, in pixels.

    Raises:
        CovidmmError: there is no image, or one is missing or damaged.
    """
    if not images:
        raise DataError(f"{out}: no image to draw")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    width = max(2 * _MARGIN + columns * tile + (columns - 1) * _GAP, 760)
    key = _legend(images, width - 2 * _MARGIN)
    captions = [_caption(image, tile) for image in images]
    head, below, foot = 72 + key.height, captions[0].height, 52
    height = head + rows * (tile + below) + (rows - 1) * _GAP + foot
    sheet = Image.new("RGB", (width, height), PAGE)
    pen = ImageDraw.Draw(sheet)
    pen.text((_MARGIN, 24), _fit(title, font(26, bold=True), width - 2 * _MARGIN), INK, font(26, bold=True))
    sheet.paste(key, (_MARGIN, 58))
    for number, (image, caption) in enumerate(zip(images, captions, strict=True)):
        x = _MARGIN + number % columns * (tile + _GAP)
        y = head + number // columns * (tile + below + _GAP)
        sheet.paste(render(_pixels(image), marks(image), tile, (tile, tile), TILE_PAGE), (x, y))
        sheet.paste(caption, (x, y + tile))
    pen.text((_MARGIN, height - foot // 2), CRITERION, FAINT, font(14), anchor="lm")
    pen.text((width - _MARGIN, height - foot // 2), NOTICE, FAINT, font(14), anchor="rm")
    _save(sheet, out)


def png(picture: Image.Image, compress_level: int = 3) -> bytes:
    """A picture as a PNG of pixels alone: no text, date or profile."""
    data = io.BytesIO()
    picture.save(data, "PNG", compress_level=compress_level)
    return data.getvalue()


def _pixels(image: DrawnImage) -> NDArray[np.uint8]:
    if image.path is None:
        raise ValueError(f"{image.name}: has no file to read pixels from")
    return radiograph.read(image.path).pixels


def _caption(image: DrawnImage, width: int, unit: float = 1.0) -> Image.Image:
    """Name and study class, and below them the counts where there is a truth."""
    bold, plain = font(round(16 * unit), bold=True), font(round(15 * unit))
    strip = Image.new("RGB", (width, round((36 if image.hits is None else 58) * unit)), PAGE)
    pen = ImageDraw.Draw(strip)
    kind = image.study_class or ""
    left = width - int(pen.textlength(kind, plain)) - round(12 * unit)
    pen.text((0, 20 * unit), _fit(image.name, bold, left), INK, bold, anchor="lm")
    pen.text((width, 20 * unit), kind, FAINT, plain, anchor="rm")
    x = 0
    for count, name in zip(image.counts, ("TP", "FP", "FN"), strict=True) if image.hits is not None else ():
        pen.text((x, 43 * unit), f"{count} {name}", INK if count else FAINT, plain, anchor="lm")
        x += int(pen.textlength(f"{count} {name}", plain) + 14 * unit)
    return strip


def _legend(images: Sequence[DrawnImage], width: int, unit: float = 1.0) -> Image.Image:
    """What the looks stand for, in as many rows as they need."""
    letters, row = font(round(15 * unit)), round(_LEGEND_ROW * unit)
    entries, x, y = [], 0, 0
    for whole, look in legend(images):
        text = _fit(whole, letters, width - round(40 * unit))
        wide = round(40 * unit + letters.getlength(text))
        if x and x + wide > width:
            x, y = 0, y + row
        entries.append((x, y + row // 2, text, look))
        x += wide + round(20 * unit)
    strip = Image.new("RGB", (width, y + row), PAGE)
    pen = ImageDraw.Draw(strip)
    for x, y, text, look in entries:
        box = (x + 3 * unit, y - 8 * unit, x + 28 * unit, y + 8 * unit)
        outline(pen, box, replace(look, width=max(1.3, look.width)), 1.5 * unit)
        pen.text((x + 40 * unit, y), text, INK, letters, anchor="lm")
    return strip


def _fit(text: str, letters: Any, width: int) -> str:
    """The text, cut to a width in pixels."""
    if letters.getlength(text) <= width:
        return text
    while text and letters.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def _save(picture: Image.Image, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(out, png(picture))
