"""The style of the report's figures; a finished one is an SVG and its numbers.

Text, axes and grid are drawn in one ink that the page replaces by its own text colour, so that a figure fits a light
and a dark page.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from covidmm.utils.csv_tables import csv_bytes

BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
#: Okabe and Ito (2008), distinguishable with every kind of colour vision; without its black and yellow, which vanish
#: on a dark or a light page.
PALETTE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
#: So that lines differ without colour too.
DASHES = ("-", (0, (5, 2)), (0, (1, 1.4)), (0, (6, 2, 1.5, 2)), (0, (3, 1.5)), (0, (8, 2)))

_INK = "#0f1e2d"
_PAPER = "#ffffff"
# Chosen here: a figure that fills a phone keeps letters of about 8 px, and two stand side by side on a desktop.
_WIDTH = 4.8
_HEIGHT = 3.2
_STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.15,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "legend.handlelength": 2.6,
    "axes.prop_cycle": mpl.cycler(color=PALETTE),
    **dict.fromkeys(("axes.facecolor", "figure.facecolor", "savefig.facecolor"), "none"),
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _INK),
    "grid.color": _INK,
}


@dataclass(frozen=True)
class Drawn:
    """A finished figure.

    Attributes:
        name: of its files, without suffix.
        title: what it shows.
        caption: how to read it; may be empty.
        svg: for a page: text in the page's colour, no background, no prolog.
        columns: of the table of its numbers.
        rows: of that table.
        wide: whether it takes the whole width of a page.
    """

    name: str
    title: str
    caption: str
    svg: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    wide: bool = False

    @property
    def inline(self) -> str:
        """The SVG for the page, which has a lighter blue for the dark."""
        return self.svg.replace(BLUE.lower(), "var(--figure-blue)")

    def file(self) -> bytes:
        """The SVG on its own, dark on white."""
        alone = self.svg.replace("<svg ", f'<svg style="background:{_PAPER};color:{_INK}" ', 1)
        return f'<?xml version="1.0" encoding="utf-8"?>\n{alone}\n'.encode()

    def csv(self) -> bytes:
        """The numbers."""
        return csv_bytes(self.columns, self.rows)


def draw(
    name: str,
    title: str,
    caption: str,
    paint: Callable[[Figure], None],
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    height: float = _HEIGHT,
    wide: bool = False,
) -> Drawn:
    """Draw a figure in the report's style.

    Args:
        name: of its files; figures of one page have different ones.
        title: what it shows, above it on the page.
        caption: how to read it.
        paint: draws into an empty figure.
        columns: of its numbers.
        rows: its numbers.
        height: in inches, of a figure that is 4.8 wide.
        wide: twice as wide, for the whole width of a page.
    """
    # the salt keeps the ids of two figures on one page apart, and the same figure the same bytes
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=((1 + wide) * _WIDTH, height), layout="constrained")
        paint(figure)
        return Drawn(name, title, caption, _svg(figure), columns, rows, wide)


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # groups are numbered alike in every figure, and nothing refers to them
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    # the page says how wide it is, the view box how high
    text = re.sub(r'(<svg [^>]*?)width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg [^>]*?)height="[^"]*"', r"\1", text, count=1)
    return re.sub(r"\n\s*", "\n", text.replace(_INK, "currentColor")).strip()
