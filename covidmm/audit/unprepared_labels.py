"""What reading folders that nobody prepared left out: the audit does not judge it otherwise."""

from __future__ import annotations

from collections.abc import Sequence

from covidmm.audit.checks import Check, Level, Table
from covidmm.datasets.prepared_folder import PreparedFolder


def check_reading(folders: Sequence[PreparedFolder]) -> list[Check]:
    """What could not be used of folders that nobody prepared; nothing where all are prepared."""
    read = [(one.name, one.reading) for one in folders if one.reading is not None]
    if not read:
        return []
    parts = {"skipped": [own.skipped for _, own in read], "changed": [own.changed for _, own in read]}
    rows = [
        (name, what, *issue)
        for what, issues in parts.items()
        for (name, _), own in zip(read, issues, strict=True)
        for issue in sorted(own)
    ]
    skipped, changed = (sum(map(len, issues)) for issues in parts.values())
    names = ", ".join(name for name, _ in read)
    summary = f"{names} not prepared: {skipped} files or labels skipped, {changed} changed"
    paragraph = (
        "A folder that nobody prepared was read as tools/prepare.py coco reads it. What that skips is in no other "
        "check: an image with a label that cannot be used, a label without its image, an image that two annotation "
        "files give other boxes or put into two splits, which is a leak. reading.csv lists all of it. Images stayed in "
        "the splits after which their files are named."
    )
    level = Level.FAULT if skipped else Level.WARNING if changed else Level.OK
    numbers = {"folders": len(read), "skipped": skipped, "changed": changed}
    columns = ("dataset", "what", "file", "field", "cause")
    return [Check("reading", level, summary, paragraph, numbers, (Table("reading", columns, rows),))]
