"""Labels of programs that draw boxes and other shapes, and label whole images, by the names of their classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from covidmm.prepare.labelled_images import LabelledImage, LabelledImages
from covidmm.prepare.samples import Issue, LabelledBox, LabelledFolder


class NamedBox(NamedTuple):
    """A box with the name of its class; ``box.label`` is unset."""

    name: str
    box: LabelledBox


@dataclass
class NamedLabels:
    """What a file says of one image."""

    image: LabelledImage
    """Without boxes and labels."""
    where: str
    """Its entry, for messages."""
    boxes: list[NamedBox] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    """Names of what the whole image shows."""
    unboxed: list[str] = field(default_factory=list)
    """Names of shapes that have no box, such as a point."""
    changes: Counter[str] = field(default_factory=Counter)
    """What was changed or left out, and how often."""

    @property
    def names(self) -> tuple[str, ...]:
        """All names of it."""
        return (*(box.name for box in self.boxes), *self.labels, *self.unboxed)


def cleaned(name: str) -> str:
    """A name without spaces around it, and with single ones inside."""
    return " ".join(name.split())


def taken(
    found: LabelledImages, read: Sequence[NamedLabels], declared: Sequence[tuple[str, bool]] | None = None
) -> LabelledFolder:
    """Give the names their numbers, and take the images.

    A class has boxes if one is drawn of it, or it is declared so. An image that shows such a class without a box of it
    is not used: it would pass as one without.

    Args:
        found: takes them.
        read: what the files say; sources of images are known.
        declared: every name of a file with a list of them, in its order, and whether boxes may be of it; None: names
            are those that occur, by the alphabet.

    Raises:
        DataError: two classes are called the same but for case, spaces, hyphens or underscores; or as
            :meth:`LabelledImages.folder`.
    """
    files = {name: one.image.label_file for one in reversed(read) for name in one.names}
    boxed = {box.name for one in read for box in one.boxes}
    labels = {name for one in read for name in (*one.labels, *one.unboxed)} - boxed
    order = [name for name, _ in declared] if declared is not None else sorted(files)
    kept = boxed | {name for name, boxable in declared or () if boxable and name not in labels} if boxed else set(order)
    names = [*(name for name in order if name in kept), *(name for name in order if name not in kept)]
    for name in names:  # also those without boxes: none may differ by case alone
        found.names.add(name, files.get(name) or (read[0].image.label_file if read else found.raw.name))
    for one in read:
        with found.reading(one.image.label_file, one.where):
            own = {box.name for box in one.boxes}
            for name in [*(name for name in one.labels if name not in own), *one.unboxed]:
                if name in boxed:
                    found.refuse(one.image.source)
                    raise ValueError(f"label: {name!r} has boxes on other images, and here a mark without one")
            _take(found, one, bool(boxed))
    return found.folder(found.names.names[: len(kept)])


def _take(found: LabelledImages, one: NamedLabels, boxed: bool) -> None:
    image = one.image
    image.boxes = [named.box._replace(label=found.names.index(named.name)) for named in one.boxes]
    image.findings = tuple(dict.fromkeys(one.labels))
    if one.labels:
        # data sets of whole-image labels keep them under NIH's key, by which they are told from data sets of boxes
        image.extra = {**image.extra, ("tags" if boxed else "labels"): list(image.findings)}
    found.add(image)
    for change, times in one.changes.items():
        found.notes.append(Issue(image.label_file, one.where, f"{times} {change}"))
