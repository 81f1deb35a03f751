"""Types for the labels of a data set's images, the same for every layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from covidmm.findings import OPACITY

Box = tuple[float, float, float, float]
"""x, y, width, height in pixels of the original image."""


class LabelledBox(NamedTuple):
    """A box that an annotator drew."""

    box: Box
    label: int = 0
    """Place of its class in the folder's ``categories``."""
    crowd: bool = False
    """A region with objects that nobody drew one by one, or that is to be ignored."""
    extra: Mapping[str, Any] = MappingProxyType({})
    """Further entries of the COCO annotation, such as how many readers agree."""
    shares: bool = False
    """Whether ``box`` counts in shares, 0 to 1, of the image's width and height instead of pixels."""


class Issue(NamedTuple):
    """One thing that was skipped or changed: a row of ``skipped.csv`` or ``notes.csv``."""

    file: str
    field: str
    cause: str


@dataclass(frozen=True)
class Sample:
    """One image with its labels; no pixel has been read."""

    image_id: str
    source: Path
    """The image file."""
    file_name: str
    """Where the PNG goes, below ``OUT/images``."""
    study_id: str
    classes: tuple[str, ...]
    """Names over which the splits are balanced: the study class, the findings, ..."""
    study_class: str | None = None
    boxes: tuple[LabelledBox, ...] = ()
    label_file: str = ""
    """Name of the file that the boxes come from, for messages."""
    size: tuple[int, int] | None = None
    """Height and width in pixels that the labels give; an image of another size is not used."""
    patient: str | None = None
    official: str | None = None
    """``'test'``, ``'train_val'``, ``'train'`` or ``'val'`` where the publisher's own lists say so."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further entries of the COCO image; they replace fields of the image file's header."""


@dataclass(frozen=True)
class LabelledFolder:
    """A raw data set: its usable samples, and what could not be used."""

    samples: Mapping[str, Sample]
    """By image id, in sorted order."""
    skipped: list[Issue]
    classes: tuple[str, ...]
    """Every name that a sample's ``classes`` may hold, in the order in which people list them."""
    categories: tuple[str, ...] = OPACITY
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Why images were left out on purpose, and how many."""
    notes: list[Issue] = field(default_factory=list)
    """What was changed in labels that are used."""


def clip_box(box: Box, width: int, height: int) -> Box | None:
    """The part of ``box`` inside an image of ``width`` x ``height`` pixels, None where there is none."""
    x1, y1 = max(box[0], 0.0), max(box[1], 0.0)
    x2, y2 = min(box[0] + box[2], float(width)), min(box[1] + box[3], float(height))
    return (x1, y1, x2 - x1, y2 - y1) if x2 > x1 and y2 > y1 else None
