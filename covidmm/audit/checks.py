"""The result of a check: its level, a line, a paragraph, numbers and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any


class Level(IntEnum):
    """How grave a result is; a FAULT makes the tool end with exit code 2."""

    OK = 0
    WARNING = 1
    FAULT = 2

    @property
    def label(self) -> str:
        """As printed: ``ok``, ``warning``, ``FAULT``."""
        return self.name if self is Level.FAULT else self.name.lower()


@dataclass(frozen=True)
class Table:
    """Rows that go into ``<name>.csv`` and, the first of them, onto the page."""

    name: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        name: of the check, as in ``audit.json``.
        level: how grave.
        summary: one line.
        paragraph: what was compared, what it means, and what to do.
        numbers: JSON values.
        tables: what was found, row by row.
    """

    name: str
    level: Level
    summary: str
    paragraph: str
    numbers: Mapping[str, Any] = field(default_factory=dict)
    tables: tuple[Table, ...] = ()


def worst(levels: Sequence[Level]) -> Level:
    """The gravest level; OK where there is none."""
    return max(levels, default=Level.OK)
