"""How boxes look: by what they are (true, predicted, of a member), and of several classes by their class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

#: What stands at the corners of a box, told apart without colour: points of a polygon around a corner, in strokes.
CORNERS: Mapping[str, Sequence[tuple[float, float]]] = {
    "": (),
    "square": ((-2.2, -2.2), (2.2, -2.2), (2.2, 2.2), (-2.2, 2.2)),
    "diamond": ((0, -3.4), (3.4, 0), (0, 3.4), (-3.4, 0)),
    "triangle": ((0, -3.4), (3.4, 2.4), (-3.4, 2.4)),
    "cross": (
        *((0, -1.3), (2.1, -3.4), (3.4, -2.1), (1.3, 0), (3.4, 2.1), (2.1, 3.4)),
        *((0, 1.3), (-2.1, 3.4), (-3.4, 2.1), (-1.3, 0), (-3.4, -2.1), (-2.1, -3.4)),
    ),
}


@dataclass(frozen=True)
class Look:
    """How an outline looks; ``width`` is in strokes, of which one is about a 300th of the picture.

    ``rim`` is the colour of a thin line around the outline, and ``corners`` the key of a shape in :data:`CORNERS`.
    """

    colour: str
    width: float = 1.0
    dashed: bool = False
    corners: str = ""
    rim: str = "#000000"

    @property
    def ink(self) -> str:
        """Black or white, whichever is read better on the colour (contrast of WCAG 2.2)."""
        values = np.array([int(self.colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
        linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
        return "#000000" if linear @ [0.2126, 0.7152, 0.0722] > 0.179 else "#FFFFFF"


#: Any two colours differ with every kind of colour vision (CIE76 above 29 in Machado et al.'s simulation, 2009; truth
#: and prediction above 40). A dashed box is wrong or missed. Truth is drawn first and wide: it is seen around a
#: prediction that covers it.
TRUTH = Look("#1DE9B6", 2.4)
MISSED = replace(TRUTH, dashed=True)
FOUND = Look("#FF8C00")
FALSE_POSITIVE = replace(FOUND, dashed=True)
#: A crowd, and what was found in it: neither right nor wrong.
CROWD = Look("#9AA3AB", 0.7, dashed=True)
#: The detectors of an ensemble, in its order; a sixth looks like the first.
MEMBERS = tuple(Look(colour, 0.7) for colour in ("#285AFF", "#FFAAFF", "#FFFF78", "#FF3355", "#9955AA"))
#: What a look stands for where its colour stands for nothing: a legend's entries beside those of classes.
NEUTRAL = "#7C8690"

#: Five colours of Okabe and Ito's set (2008, https://jfly.uni-koeln.de/color): any two, and each and any grey of a
#: radiograph, differ with every kind of colour vision (CIE76 above 16). Its green and its purple are greys to some.
PALETTE = ("#E69F00", "#56B4E9", "#F0E442", "#0072B2", "#D55E00")


def of_class(role: Look, label: int) -> Look:
    """A role's look in the colour, and with the corners, of a class.

    Both follow from the class's place in the list of classes alone, whatever else is shown. No two of 25 classes look
    the same; a further one looks like the first again, and only the name at its box tells.

    Args:
        role: such as :data:`TRUTH`. Its width and dashes stay; a true box has a white rim instead of a black one.
        label: the index of the class.
    """
    shape, colour = divmod(label, len(PALETTE))
    corners = list(CORNERS)[shape % len(CORNERS)]
    return replace(_white_rimmed(role), colour=PALETTE[colour], corners=corners)


def member_look(number: int) -> Look:
    """The look of a detector of an ensemble, by its place, where there is one class."""
    return MEMBERS[number % len(MEMBERS)]


def role_legend(
    kind: str = "prediction", members: Sequence[tuple[str, Look]] = (), crowds: bool = False
) -> list[tuple[str, Look]]:
    """What the looks of boxes that were compared with a truth stand for.

    Args:
        kind: what the predictions are called.
        members: of an ensemble, name and look.
        crowds: whether there are any.
    """
    rest = [("crowd, not scored", CROWD)] if crowds else []
    return [
        ("truth", TRUTH),
        ("missed truth", MISSED),
        *members,
        (kind, FOUND),
        ("false positive", FALSE_POSITIVE),
        *rest,
    ]


def neutral(looks: Iterable[tuple[str, Look]]) -> list[tuple[str, Look]]:
    """Entries of a legend for pictures of several classes, in which their colours stand for nothing."""
    return [(text, look if look == CROWD else replace(_white_rimmed(look), colour=NEUTRAL)) for text, look in looks]


def class_legend(classes: Sequence[str], labels: Iterable[int]) -> list[tuple[str, Look]]:
    """The looks of classes, in their order.

    Args:
        classes: all names.
        labels: the indices of those that are listed, with repetitions.
    """
    return [(classes[label], of_class(FOUND, label)) for label in sorted(set(labels))]


def _white_rimmed(role: Look) -> Look:
    return replace(role, rim="#FFFFFF") if role in (TRUTH, MISSED) else role
