"""What an ensemble's models are made for, by the header of a radiograph: ``accepts`` of its config."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, fields
from functools import cached_property

from covidmm.errors import ConfigError, NotAcceptedError
from covidmm.radiograph import Header

#: The DICOM attribute of each field.
_ATTRIBUTES = {"modality": "Modality", "body_part": "BodyPartExamined", "view": "ViewPosition"}
#: Values that say no more than an empty one does. Chosen here.
_UNKNOWN = frozenset(("", "unknown", "unspecified", "undefined", "none", "na", "null"))
#: Of a message: how many values it lists, and characters of one. Chosen here.
_SHOWN, _LONGEST = 4, 50


@dataclass(frozen=True)
class Accepts:
    """Which values of three attributes a radiograph may have; of an attribute without values any.

    A value is compared without regard to case, accents, spaces and punctuation, as a whole and word by word: ``CHEST``
    takes ``Port. Chest``, ``CHEST_PA`` and ``Chest 2 views``.

    Attributes:
        modality: of Modality.
        body_part: of BodyPartExamined.
        view: of ViewPosition.

    Raises:
        ConfigError: values that are no texts.
    """

    modality: tuple[str, ...] = ()
    body_part: tuple[str, ...] = ()
    view: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for one in fields(self):
            values = getattr(self, one.name)
            if not isinstance(values, list | tuple) or not all(isinstance(value, str) and value for value in values):
                raise ConfigError(f"accepts: {one.name} must be a tuple of texts, not {values!r}")
            object.__setattr__(self, one.name, tuple(values))

    @cached_property
    def _known(self) -> dict[str, frozenset[str]]:
        """The values that are taken, by field; a field without is left out."""
        values = {name: frozenset(map(_joined, getattr(self, name))) for name in _ATTRIBUTES}
        return {name: known for name, known in values.items() if known}

    def check(self, header: Header, labelled: bool = False) -> tuple[str, ...]:
        """Refuse a radiograph of another kind; a note where its header does not say of which kind it is.

        Args:
            header: of the radiograph.
            labelled: whether people labelled it as a chest radiograph; headers are filled in less carefully, so that
                a contradiction is a note then.

        Raises:
            NotAcceptedError: an attribute has a value that is not taken; names the file, the attribute and the value.
        """
        notes, unknown = [], []
        for name, known in self._known.items():
            value = getattr(header, name)
            if value is None or _joined(value) in _UNKNOWN or not "".join(value.split()).isprintable():
                unknown.append(_ATTRIBUTES[name])
            elif known.isdisjoint({_joined(value), *_words(value)}):
                said = f"{_ATTRIBUTES[name]} is {' '.join(value.split())[:_LONGEST]!r}"
                if not labelled:
                    raise NotAcceptedError(
                        f"{header.path}: refused: {said}, the models are for {_few(getattr(self, name))}"
                    )
                notes.append(f"taken though {said}: its data set has labels of it")
        if unknown and not labelled:
            notes.append(f"taken without {', '.join(unknown)}: its header does not say what it shows")
        return tuple(notes)


def _few(values: tuple[str, ...]) -> str:
    return ", ".join(values[:_SHOWN]) + (", ..." if len(values) > _SHOWN else "")


def _joined(text: str) -> str:
    return re.sub(r"[\W_]", "", _plain(text))


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", _plain(text))


def _plain(text: str) -> str:
    """Small letters without accents."""
    return "".join(one for one in unicodedata.normalize("NFKD", text) if not unicodedata.combining(one)).casefold()
