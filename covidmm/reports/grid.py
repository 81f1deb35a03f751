"""Pictures of predictions against truth: single radiographs, and a sheet of many."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from covidmm.errors import DataError
from covidmm.evaluation.detection import IOU_THRESHOLD
from covidmm.reports.drawn_images import Case, Order, choose, read_cases
from covidmm.utils.fileio import write_bytes

FOOTER = "covidmm: research software, not a medical device"
CRITERION = f"TP: a prediction whose IoU with a truth is above {IOU_THRESHOLD:g}"
#: Told apart with every kind of colour vision (CIE76 above 40 in Machado et al.'s simulation, 2009).
TRUTH, PREDICTION = "#1DE9B6", "#FF8C00"
#: The detectors of an ensemble, in its order; the fourth is drawn as the first. Any two of all five differ by 29.
MEMBERS = ("#285AFF", "#FFAAFF", "#FFFF78")
PAGE, TILE_PAGE, INK, FAINT = "#14171A", "#000000", "#F2F4F5", "#9AA3AB"

_MARGIN, _GAP = 28, 16


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

    Raises:
        DataError: a file is missing or damaged.
    """
    root = Path(dataset["data_root"])
    cases = read_cases(root / "images", root / dataset["ann_file"], predictions, threshold)
    stems = Counter(case.path.stem for case in cases)
    for case in cases:
        stem = case.path.stem if stems[case.path.stem] == 1 else f"{case.path.stem}_{case.image['id']}"
        draw_case(case, Path(folder, f"{stem}.png"))
    draw_sheet(choose(cases, 12), Path(folder, "grid.png"), f"{title}, boxes of confidence {threshold:.2f} and above")


def draw_grid(
    images_dir: str | Path,
    coco_json: str | Path,
    predictions: Sequence[Mapping[str, Any]] | str | Path,
    out_png: str | Path,
    threshold: float,
    *,
    title: str,
    count: int = 12,
    columns: int = 4,
    seed: int = 0,
    order: Order = "spread",
) -> None:
    """Draw some images of a split on one sheet.

    Args:
        images_dir: the folder that the file names of ``coco_json`` are relative to.
        coco_json: COCO detection file.
        predictions: a COCO results list, or a file that holds one.
        out_png: the file to write.
        threshold: predictions below it are not drawn.
        title: what the sheet shows.
        count: how many images at most.
        columns: images in a row.
        seed: which images ``order='spread'`` draws.
        order: ``spread``, ``worst`` or ``best``, as :func:`covidmm.reports.drawn_images.choose` says.

    Raises:
        DataError: a file is missing or damaged, or there is no image to draw.
    """
    cases = choose(read_cases(images_dir, coco_json, predictions, threshold), count, order, seed)
    draw_sheet(cases, out_png, title, columns)


def draw_sheet(cases: Sequence[Case], out: str | Path, title: str, columns: int = 4, tile: int = 360) -> None:
    """Draw cases on one sheet, row by row, as PNG.

    Args:
        cases: those to draw, in order.
        out: the file to write.
        title: what the sheet shows.
        columns: cases in a row.
        tile: width and height of a radiograph's square, in pixels.

    Raises:
        DataError: there is no case, or an image is missing.
    """
    if not cases:
        raise DataError(f"{out}: no image to draw")
    columns = min(columns, len(cases))
    rows = -(-len(cases) // columns)
    head, caption, foot = 100, 58, 52
    width = max(2 * _MARGIN + columns * tile + (columns - 1) * _GAP, 760)
    height = head + rows * (tile + caption) + (rows - 1) * _GAP + foot
    sheet = Image.new("RGB", (width, height), PAGE)
    pen = ImageDraw.Draw(sheet)
    pen.text((_MARGIN, 24), _fit(title, _font(26, bold=True), width - 2 * _MARGIN), INK, _font(26, bold=True))
    _legend(pen, _MARGIN, 72, list(cases[0].members))
    for number, case in enumerate(cases):
        x = _MARGIN + number % columns * (tile + _GAP)
        y = head + number // columns * (tile + caption + _GAP)
        sheet.paste(_radiograph(case, tile, letterbox=True), (x, y))
        _caption(pen, case, x, y + tile, tile)
    pen.text((_MARGIN, height - foot // 2), CRITERION, FAINT, _font(14), anchor="lm")
    pen.text((width - _MARGIN, height - foot // 2), FOOTER, FAINT, _font(14), anchor="rm")
    _save(sheet, out)


def draw_case(case: Case, out: str | Path, size: int = 900) -> None:
    """Draw one radiograph with truth and predictions, as PNG.

    Args:
        case: the case.
        out: the file to write.
        size: the longer side of the radiograph in the picture, in pixels.

    Raises:
        DataError: the image is missing.
    """
    picture = _radiograph(case, size, letterbox=False)
    width = max(picture.width, 560)
    page = Image.new("RGB", (width, picture.height + 126), PAGE)
    page.paste(picture, ((width - picture.width) // 2, 0))
    pen = ImageDraw.Draw(page)
    _caption(pen, case, _GAP, picture.height, width - 2 * _GAP)
    _legend(pen, _GAP, picture.height + 74, list(case.members))
    pen.text((_GAP, picture.height + 106), FOOTER, FAINT, _font(13), anchor="lm")
    _save(page, out)


def _radiograph(case: Case, size: int, letterbox: bool) -> Image.Image:
    """The radiograph, its longer side ``size`` pixels, with truth below predictions; a square if letterboxed."""
    try:
        with Image.open(case.path) as file:
            grey = file.convert("L")
    except FileNotFoundError:
        raise DataError(f"{case.path}: no such image") from None
    except (OSError, SyntaxError, ValueError) as error:  # Pillow raises each of them for damaged files
        raise DataError(f"{case.path}: cannot be read as a picture ({error})") from error
    scale = size / max(grey.size)
    shown = grey.resize([max(1, round(side * scale)) for side in grey.size], Image.Resampling.LANCZOS)
    canvas = Image.new("RGB", (size, size) if letterbox else shown.size, TILE_PAGE)
    offset = np.array([(canvas.width - shown.width) // 2, (canvas.height - shown.height) // 2] * 2)
    canvas.paste(shown, tuple(offset[:2].tolist()))
    pen = ImageDraw.Draw(canvas)
    edge = np.array([*shown.size, *shown.size]) - 1
    stroke = max(2, round(size / 300))

    def place(boxes: NDArray) -> list[list[int]]:
        # the annotated size, for a box is in its pixels
        factors = np.array([shown.width / case.image["width"], shown.height / case.image["height"]] * 2)
        return (np.clip(np.round(boxes * factors), 0, edge) + offset).astype(int).tolist()

    for box in place(case.truth):
        _rectangle(pen, box, TRUTH, 2 * stroke - 1)
    for number, boxes in enumerate(case.members.values()):
        for box in place(boxes):
            _rectangle(pen, box, MEMBERS[number % len(MEMBERS)], max(1, stroke - 1))
    placed = place(case.boxes)
    for box, hit in zip(placed, case.hits, strict=True):
        _rectangle(pen, box, PREDICTION, stroke, dashed=not hit)
    _tags(pen, placed, [f"{score:.2f}" for score in case.scores], _font(round(9 + size / 85)), canvas.size)
    return canvas


def _rectangle(pen: ImageDraw.ImageDraw, box: Sequence[int], colour: str, stroke: int, dashed: bool = False) -> None:
    """An outline centred on the box's edges, with a dark rim that keeps it visible on white."""
    for rim, paint in ((1, "#000000"), (0, colour)):
        low = stroke // 2 + rim
        high = stroke + 2 * rim - 1 - low
        for x1, y1, x2, y2 in _dashes(box, 4 * stroke, 3 * stroke) if dashed else [box]:
            grown = [x1 - low, y1 - low, x2 + high, y2 + high]
            pen.rectangle(grown, outline=paint, fill=paint if dashed else None, width=stroke + 2 * rim)


def _dashes(box: Sequence[int], dash: int, gap: int) -> Iterator[tuple[int, int, int, int]]:
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
    pen: ImageDraw.ImageDraw, boxes: Sequence[Sequence[int]], texts: Sequence[str], font: Any, size: tuple[int, int]
) -> None:
    """A filled tag per box, at the first of its corners where it hides no other tag."""
    taken: list[tuple[int, int, int, int]] = []
    for (x1, y1, x2, y2), text in zip(boxes, texts, strict=True):
        width, height = int(pen.textlength(text, font)) + 8, int(font.size) + 5
        corners = [(x1, y1 - height), (x2 - width, y1 - height), (x1, y2), (x2 - width, y2), (x1, y1), (x2 - width, y1)]
        spots = [(min(max(x, 0), size[0] - width), min(max(y, 0), size[1] - height)) for x, y in corners]
        areas = [(x, y, x + width, y + height) for x, y in spots]
        area = next((area for area in areas if not any(_meet(area, other) for other in taken)), areas[0])
        taken.append(area)
        pen.rectangle([area[0], area[1], area[2] - 1, area[3] - 1], fill=PREDICTION)
        pen.text((area[0] + width / 2, area[1] + height / 2), text, "#000000", font, anchor="mm")


def _meet(a: Sequence[int], b: Sequence[int]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _caption(pen: ImageDraw.ImageDraw, case: Case, x: int, y: int, width: int) -> None:
    """Identifier and study class, and below them the counts."""
    bold, plain = _font(16, bold=True), _font(15)
    kind = case.study_class or ""
    room = width - int(pen.textlength(kind, plain)) - 12
    pen.text((x, y + 20), _fit(case.name, bold, room), INK, bold, anchor="lm")
    pen.text((x + width, y + 20), kind, FAINT, plain, anchor="rm")
    found, false, missed = case.counts
    for text, count in ((f"{found} TP", found), (f"{false} FP", false), (f"{missed} FN", missed)):
        pen.text((x, y + 43), text, INK if count else FAINT, plain, anchor="lm")
        x += int(pen.textlength(text, plain)) + 14


def _legend(pen: ImageDraw.ImageDraw, x: int, y: int, members: Sequence[str]) -> None:
    """One line, centred on ``y``."""
    font = _font(15)
    kind = "ensemble" if members else "prediction"
    for text, colour, dashed in (
        ("truth", TRUTH, False),
        *((name, MEMBERS[number % len(MEMBERS)], False) for number, name in enumerate(members)),
        (f"{kind}: found", PREDICTION, False),
        (f"{kind}: false alarm", PREDICTION, True),
    ):
        _rectangle(pen, [x + 2, y - 8, x + 28, y + 8], colour, 3 if colour == TRUTH else 2, dashed)
        pen.text((x + 40, y), text, INK, font, anchor="lm")
        x += 40 + int(pen.textlength(text, font)) + 28


def _fit(text: str, font: Any, width: int) -> str:
    """The text, cut to a width in pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


@lru_cache
def _font(size: int, bold: bool = False) -> Any:
    """DejaVu Sans, which matplotlib brings along."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(mpl.get_data_path(), "fonts", "ttf", name)), size)


def _save(picture: Image.Image, out: str | Path) -> None:
    data = io.BytesIO()
    picture.save(data, "PNG", compress_level=3)
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    write_bytes(Path(out), data.getvalue())
