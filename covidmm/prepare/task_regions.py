"""Regions of Label Studio's annotations as boxes. See https://labelstud.io/guide/task_format and /guide/export."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from covidmm.prepare.box_values import around, around_ellipse, is_ignore, turned
from covidmm.prepare.named_labels import NamedBox, cleaned
from covidmm.prepare.samples import Box, LabelledBox

#: How far, in percent of the image, a region may reach over its edge. Chosen here.
_BEYOND = 1.0
_CHANGED = {
    "ellipse": "ellipses became the boxes around them",
    "polygon": "polygons became the boxes around them",
    "turned": "turned boxes became the upright boxes around them",
}
#: Kinds of results that ask something about a region, or about the whole image.
_QUESTIONS = ("choices", "textarea", "rating", "number", "taxonomy", "datetime")


@dataclass
class Reading:
    """What one person says of an image."""

    reader: str
    boxes: list[NamedBox] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    unboxed: list[str] = field(default_factory=list)


@dataclass
class _Region:
    """The results that have one id: a place, its labels, and what else was asked about it."""

    kind: str | None = None
    value: Mapping[str, Any] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    choices: dict[str, list[str]] = field(default_factory=dict)
    """By the name of the question."""
    answers: dict[str, Any] = field(default_factory=dict)
    """To questions of other kinds."""


def size_of(results: Sequence[Mapping[str, Any]]) -> tuple[int, int] | None:
    """Height and width of the image that results give; None where none does.

    Raises:
        ValueError: ``original_width: cause``: they differ, or are no numbers of pixels.
    """
    sizes = {(one["original_height"], one["original_width"]) for one in results if one.get("original_width")}
    if not sizes:
        return None
    if len(sizes) > 1:
        raise ValueError(f"original_width: regions give several heights and widths: {sorted(sizes)}")
    height, width = sizes.pop()
    if not all(isinstance(side, int) and side > 0 for side in (height, width)):
        raise ValueError(f"original_width: {width!r} x {height!r} is no size in pixels")
    return height, width


def read_results(
    reader: str,
    results: Sequence[Mapping[str, Any]],
    size: tuple[int, int] | None,
    changes: Counter[str],
    located: Callable[[str], AbstractContextManager[None]],
) -> Reading:
    """Read an annotation.

    Args:
        reader: who made it.
        results: its ``result``.
        size: height and width of the image; None where unknown: boxes are then shares of it.
        changes: gets what was changed or left out.
        located: gets the name of a region; takes a ValueError that is raised for it.
    """
    regions: dict[Any, _Region] = {}
    for place, result in enumerate(results, start=1):
        key = result.get("id", f"number {place}")
        with located(str(key)):
            _gather(result, regions.setdefault(key, _Region()))
    reading = Reading(reader)
    for key, region in regions.items():
        with located(str(key)):
            _take(region, size, reading, changes)
    return reading


def _gather(result: Mapping[str, Any], region: _Region) -> None:
    """Add one result to what is known of its region."""
    value = result.get("value")
    kind = str(result.get("type", ""))
    if result.get("item_index"):
        raise ValueError("item_index: the task has several images, which are not read")
    if result.get("image_rotation"):
        raise ValueError("image_rotation: the image was turned, and where its regions lie then is not defined")
    if kind == "relation":
        return
    if not isinstance(value, dict) or not value:
        raise ValueError(f"value: expected an object, got {value!r}")
    own_kind = kind.removesuffix("labels")
    if any(key in value for key in ("x", "points", "rle")) and own_kind not in ("", *_QUESTIONS):
        region.kind, region.value = own_kind, value
    for key, given in value.items():
        if key.endswith("labels") or key == "choices":
            if not isinstance(given, list) or not all(isinstance(name, str) and name.strip() for name in given):
                raise ValueError(f"{key}: expected a list of names, got {given!r}")
            if key == "choices":
                region.choices[str(result.get("from_name", key))] = [cleaned(name) for name in given]
            else:
                region.names += [name for name in map(cleaned, given) if name not in region.names]
        elif key in _QUESTIONS or key == "text":
            region.answers[str(result.get("from_name", key))] = given


def _take(region: _Region, size: tuple[int, int] | None, reading: Reading, changes: Counter[str]) -> None:
    """Take a region, or what was said of the whole image."""
    if region.kind is None and not region.names:
        reading.labels += [choice for given in region.choices.values() for choice in given]
        for name in region.answers:
            changes[f"answers to {name!r} about the whole image were left out"] += 1
        return
    if not region.names:
        raise ValueError("labels: the region has none")
    if region.kind not in ("rectangle", "ellipse", "polygon"):
        reading.unboxed += region.names
        changes[f"regions of {', '.join(map(repr, region.names))} were left out, which have no box"] += 1
        return
    degrees = _number(region.value.get("rotation", 0), "rotation") % 360
    box = _box(region, degrees, size)
    if region.kind != "rectangle" or degrees:
        changes[_CHANGED["turned" if region.kind == "rectangle" else region.kind]] += 1
    attributes = {**region.choices, **region.answers}
    labelled = LabelledBox(
        box,
        crowd=any(is_ignore(choice) for given in region.choices.values() for choice in given),
        extra={"attributes": attributes} if attributes else {},
        shares=size is None,
    )
    reading.boxes += [NamedBox(name, labelled) for name in region.names]


def _box(region: _Region, degrees: float, size: tuple[int, int] | None) -> Box:
    """The upright box around a region, in pixels, or in shares where the size is unknown."""
    value, (height, width) = region.value, size or (1, 1)
    if degrees and size is None:
        raise ValueError("rotation: the region is turned, and original_width and original_height are not given")
    if region.kind == "polygon":
        points = value.get("points")
        if not isinstance(points, list) or not all(isinstance(one, list) and len(one) == 2 for one in points):
            raise ValueError(f"points: expected x, y of each, got {str(points)[:40]}")
        return around((_share(x, "points") * width, _share(y, "points") * height) for x, y in points)
    x, y = _share(value.get("x"), "x") * width, _share(value.get("y"), "y") * height
    names = ("radiusX", "radiusY") if region.kind == "ellipse" else ("width", "height")
    sides = [_share(value.get(name), name) for name in names]
    for side, name in zip(sides, names, strict=True):
        if side < 0:
            raise ValueError(f"{name}: {side * 100:g} is no length")
    across, down = sides[0] * width, sides[1] * height
    if region.kind == "ellipse":
        return around_ellipse((x, y), (across, down), degrees)
    box = (x, y, across, down)
    return turned(box, degrees, (x, y)) if degrees else box


def _share(value: Any, name: str) -> float:
    """A value in percent as a share."""
    percent = _number(value, name)
    if not -_BEYOND <= percent <= 100 + _BEYOND:
        raise ValueError(f"{name}: expected percent of the image, 0 to 100, got {percent:g}")
    return percent / 100


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ValueError(f"{name}: expected a number, got {value!r}")
    return float(value)
