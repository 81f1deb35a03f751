"""The summary that ``tools/prepare.py`` prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from covidmm.prepare.samples import Issue

_SHOWN = 10
_ROWS = {
    "studies": "studies",
    "images": "images",
    "  with boxes": "images_with_boxes",
    "  without boxes": "images_without_boxes",
    "boxes": "boxes",
}


@dataclass(frozen=True)
class Listed:
    """The part of a long list of issues that is printed."""

    total: int
    first: tuple[Issue, ...]
    """At most ten."""
    per_field: Mapping[str, int]
    """First word of the field -> number of issues."""

    @classmethod
    def of(cls, issues: Iterable[Issue]) -> Listed:
        """What is shown of a list, in sorted order."""
        ordered = sorted(issues)
        per_field = Counter(issue.field.split(" ")[0] for issue in ordered)
        return cls(len(ordered), tuple(ordered[:_SHOWN]), dict(per_field.most_common()))


@dataclass(frozen=True)
class Summary:
    """The end of :func:`covidmm.prepare.pipeline.prepare`."""

    out: Path
    written: int
    """PNGs written by this run."""
    kept: int
    """PNGs that were there already."""
    skipped: Listed
    notes: Listed
    left_out: Mapping[str, int]
    counts: Mapping[str, Mapping[str, Any]]
    """Per split, as in ``prepared.json``."""
    near_duplicates: int
    """Pairs of images that show the same picture."""

    def text(self) -> str:
        """The table."""
        lines = [*self._split_table(), ""]
        lines.append(f"images        {self.written} written, {self.kept} already there")
        lines += [f"left out      {count} {why}" for why, count in self.left_out.items()]
        lines.append(f"duplicates    {self.near_duplicates} pairs of near-duplicates, kept on one side")
        if self.notes.total:
            lines.append(f"notes         {self.notes.total}, in {self.out / 'notes.csv'}")
        lines.append(f"skipped       {self.skipped.total}, in {self.out / 'skipped.csv'}")
        lines += [f"  {issue.file}: {issue.field}: {issue.cause}" for issue in self.skipped.first]
        if self.skipped.total > _SHOWN:
            lines.append("  ...")
            lines += [f"  {count} for {name}" for name, count in self.skipped.per_field.items()]
        lines.append(f"prepared      {self.out}")
        return "\n".join(lines)

    def _split_table(self) -> list[str]:
        """One column per split; one row per quantity and per class that occurs."""
        rows = [["", *self.counts]]
        for title, key in _ROWS.items():
            rows.append([title, *(str(counts[key]) for counts in self.counts.values())])
        every = [counts["images_per_class"] for counts in self.counts.values()]
        for name in every[0]:
            if any(per_class[name] for per_class in every):
                rows.append([f"  {name}", *(str(per_class[name]) for per_class in every)])
        width = max(len(row[0]) for row in rows)
        return ["".join([row[0].ljust(width), *(cell.rjust(8) for cell in row[1:])]) for row in rows]
