"""The pictures of the site that are drawn from the package: the way of a radiograph, and who imports whom."""

from __future__ import annotations

import ast
import re
import textwrap
from collections import Counter
from pathlib import Path

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot as plt
from matplotlib.patches import FancyBboxPatch, Rectangle

PACKAGE = Path(__file__).resolve().parents[1] / "covidmm"
PAGE = Path(__file__).with_name("architecture.md")
#: The stages of a radiograph from top to bottom; packages beside each other work on the same thing.
WAY = (
    ("radiograph",),
    ("prepare",),
    ("datasets",),
    ("models", "engine", "evaluation"),
    ("ensembles", "studies"),
    ("inference",),
    ("outputs", "audit", "reports", "web"),
)
#: What goes from one stage to the next.
HANDED_ON = (
    "8-bit grey, air black, with its header",
    "PNGs, COCO files, splits",
    "samples with boxes and labels",
    "checkpoints with thresholds",
    "strategies and study classifiers",
    "findings: boxes with scores, class probabilities",
)
INK, PAPER, LINE = "#1b2a41", "#eef3f8", "#5b7fa6"


def draw_all(folder: Path) -> None:
    """Write both pictures as SVG."""
    folder.mkdir(exist_ok=True)
    plt.rcParams.update({"svg.hashsalt": "covidmm", "font.family": "DejaVu Sans"})
    _save(_way(), folder / "way.svg")
    _save(_imports(), folder / "imports.svg")


def ranks() -> list[list[str]]:
    """The order of imports, as docs/architecture.md has it."""
    text = re.search(r"\n    (errors -> .*?)\n\n", PAGE.read_text(), re.DOTALL)[1]
    return [[name.strip() for name in rank.split(",")] for rank in text.split("->")]


def purpose(package: str) -> str:
    """The first sentence of a package's docstring."""
    path = PACKAGE / package / "__init__.py"
    text = ast.get_docstring(ast.parse((path if path.is_file() else PACKAGE / f"{package}.py").read_text())) or ""
    return " ".join(text.split("\n\n")[0].split()).rstrip(".")


def import_counts() -> Counter[tuple[str, str]]:
    """(importing, imported) package -> number of its modules that do."""
    counts: Counter[tuple[str, str]] = Counter()
    for path in PACKAGE.rglob("*.py"):
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        found = {
            name.split(".")[1]
            for node in ast.walk(ast.parse(path.read_text()))
            for name in _names(node)
            if name.startswith("covidmm.")
        }
        counts.update((own, other) for other in found - {own})
    return counts


def _names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [node.module] if node.module != "covidmm" else [f"covidmm.{alias.name}" for alias in node.names]
    return []


def _way() -> plt.Figure:
    height, gap = 1.35, 0.6
    figure, axes = plt.subplots(figsize=(11, len(WAY) * 1.35))
    top = len(WAY) * (height + gap)
    axes.text(6, top + 0.25, "a DICOM, PNG, JPEG or TIFF file", ha="center", va="center", color=INK, style="italic")
    for row, packages in enumerate(WAY):
        y = top - (row + 1) * (height + gap) + gap / 2
        width = min(6.2, 12 / len(packages) - 0.2)
        for column, package in enumerate(packages):
            x = 6 + (column - (len(packages) - 1) / 2) * (width + 0.2)
            _box(axes, x - width / 2, y, width, height)
            axes.text(x, y + height - 0.22, f"{package}/", ha="center", va="center", weight="bold", color=INK, size=11)
            lines = textwrap.fill(purpose(package), int(width * 11.5), break_on_hyphens=False)
            axes.text(x, y + height - 0.42, lines, ha="center", va="top", color=INK, size=7.5)
        axes.annotate(
            "", (6, y + height), (6, y + height + gap - 0.02), arrowprops={"arrowstyle": "-|>", "color": LINE}
        )
        if row:
            axes.text(6.15, y + height + gap / 2, HANDED_ON[row - 1], va="center", color=LINE, size=8.5, style="italic")
    axes.set(xlim=(-0.1, 12.1), ylim=(0, top + 0.5))
    axes.axis("off")
    return figure


def _imports() -> plt.Figure:
    """A matrix: the modules of the row's package that import the column's. Below the diagonal is the allowed side."""
    names, counts = [name for rank in ranks() for name in rank], import_counts()
    figure, axes = plt.subplots(figsize=(8.5, 7))
    for y, own in enumerate(names):
        for x, other in enumerate(names):
            if count := counts[own, other]:
                shade = min(0.85, 0.25 + count / 20)
                axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=LINE, alpha=shade, linewidth=0))
                axes.text(x, y, str(count), ha="center", va="center", color="white" if shade > 0.5 else INK, size=8)
        axes.add_patch(Rectangle((y - 0.5, y - 0.5), 1, 1, facecolor=INK, linewidth=0))
    axes.set(xlim=(-0.5, len(names) - 0.5), ylim=(len(names) - 0.5, -0.5))
    axes.set_xticks(range(len(names)), names, rotation=45, ha="left", color=INK)
    axes.set_yticks(range(len(names)), names, color=INK)
    axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
    axes.set_xlabel("imported package", color=INK)
    axes.set_ylabel("importing package", color=INK)
    for side in axes.spines.values():
        side.set_color(LINE)
    return figure


def _box(axes: plt.Axes, x: float, y: float, width: float, height: float) -> None:
    style = {"boxstyle": "round,pad=0,rounding_size=0.1", "facecolor": PAPER, "edgecolor": LINE}
    axes.add_patch(FancyBboxPatch((x, y), width, height, **style))


def _save(figure: plt.Figure, path: Path) -> None:
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
