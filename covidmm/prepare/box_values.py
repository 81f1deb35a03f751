"""Boxes from the numbers of label files, in the forms in which people write them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from covidmm.prepare.label_files import number
from covidmm.prepare.samples import Box

#: Names of a box's four numbers in each form: corners, corner and sides, centre and sides.
FORMS = (("x1", "y1", "x2", "y2"), ("x", "y", "w", "h"), ("cx", "cy", "w", "h"))
#: No box is so far away, in pixels; it also holds off infinities. Chosen here.
_FARTHEST = 1e9
#: How programs call regions that are to be ignored, with underscores.
_IGNORE = ("ignore", "ignored", "crowd", "iscrowd", "is_crowd", "difficult")
_FLAGS = {"": False, "0": False, "false": False, "no": False, "1": True, "true": True, "yes": True}
#: How far a share may be above 1 by rounding. Chosen here.
_ROUNDING = 1e-3


def box_of(values: Sequence[float], form: Sequence[str]) -> Box:
    """The box x, y, width, height of four numbers.

    Args:
        values: in pixels, or in shares of the image.
        form: one of :data:`FORMS`.

    Raises:
        ValueError: ``name: cause``: it is inverted; one without area is dropped later, as those that are too thin are.
    """
    a, b, c, d = values
    if form == FORMS[0]:
        for low, high, names in ((a, c, ("x1", "x2")), (b, d, ("y1", "y2"))):
            if high < low:
                raise ValueError(f"{names[1]}: {high:g} is below {names[0]}, {low:g}")
        return a, b, c - a, d - b
    for side, name in zip((c, d), form[2:], strict=True):
        if side < 0:
            raise ValueError(f"{name}: {side:g} is no length")
    return (a - c / 2, b - d / 2, c, d) if form == FORMS[2] else (a, b, c, d)


def require_pixels(values: Sequence[float]) -> None:
    """Refuse what are no pixels.

    Args:
        values: of a box, in any form.

    Raises:
        ValueError: ``box: cause``.
    """
    if not all(abs(value) < _FARTHEST for value in values):
        raise ValueError(f"box: expected pixels, got {list(values)}")
    if all(0 <= value <= 1 for value in values) and max(values[2:]) > 0:
        raise ValueError(f"box: expected pixels, got shares of the image: {list(values)}")


def require_shares(values: Sequence[float]) -> None:
    """Refuse what are no shares of an image, 0 to 1.

    Args:
        values: of a box or a polygon, in any form.

    Raises:
        ValueError: ``box: cause``.
    """
    if not all(-_ROUNDING <= value <= 1 + _ROUNDING for value in values):
        shown = " ".join(f"{value:g}" for value in values)
        raise ValueError(f"box: expected shares of the image, 0 to 1, got {shown}")


def numbers(texts: Mapping[str, str]) -> list[float]:
    """The finite numbers of several texts.

    Args:
        texts: by their names, for messages.

    Raises:
        ValueError: ``name: cause`` where one is none.
    """
    found = []
    for name, text in texts.items():
        try:
            found.append(number(text))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return found


def flag(name: str, text: str) -> bool:
    """The truth value that a text spells; an empty one is false.

    Args:
        name: for messages.
        text: any.

    Raises:
        ValueError: ``name: cause`` where it spells none.
    """
    value = _FLAGS.get(text.strip().lower())
    if value is None:
        raise ValueError(f"{name}: expected 0 or 1, got {text!r}")
    return value


def is_ignore(name: str) -> bool:
    """Whether an attribute or a choice of this name marks a region that is to be ignored."""
    return "_".join(name.lower().replace("-", " ").split()) in _IGNORE


def around(points: Iterable[tuple[float, float]]) -> Box:
    """The smallest upright box around points x, y.

    Raises:
        ValueError: ``points: cause``: there are none.
    """
    if not (listed := list(points)):
        raise ValueError("points: there are none")
    across, down = zip(*listed, strict=True)
    return min(across), min(down), max(across) - min(across), max(down) - min(down)


def turned(box: Box, degrees: float, pivot: tuple[float, float]) -> Box:
    """The smallest upright box around a box that was turned.

    Args:
        box: x, y, width, height, in units of the same length both ways.
        degrees: clockwise, y pointing down.
        pivot: the point around which it was turned.
    """
    x, y, width, height = box
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    moved = [(a - pivot[0], b - pivot[1]) for a in (x, x + width) for b in (y, y + height)]
    return around((pivot[0] + a * cos - b * sin, pivot[1] + a * sin + b * cos) for a, b in moved)


def around_ellipse(centre: tuple[float, float], radii: tuple[float, float], degrees: float) -> Box:
    """The smallest upright box around an ellipse that was turned about its centre.

    Raises:
        ValueError: ``radius: cause``: one is negative.
    """
    if min(radii) < 0:
        raise ValueError(f"radius: {min(radii):g} is no length")
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    half = math.hypot(radii[0] * cos, radii[1] * sin), math.hypot(radii[0] * sin, radii[1] * cos)
    return centre[0] - half[0], centre[1] - half[1], 2 * half[0], 2 * half[1]
