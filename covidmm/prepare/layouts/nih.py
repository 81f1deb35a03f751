"""Reads the raw NIH ChestX-ray14 layout.

``RAW/images*/**/*.png``, ``RAW/Data_Entry_2017.csv`` (2017 or 2020 edition, plain or gzipped) and, where they
are there, the publisher's ``train_val_list.txt`` and ``test_list.txt``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import NamedTuple

from covidmm.errors import DataError
from covidmm.prepare.label_files import Table, find_files, missing, read_rows
from covidmm.prepare.samples import Issue, Issues, IssueSink, LabelledFolder, Sample
from covidmm.prepare.scratch import Scratch, joined, parted

DATA_ENTRY = (
    "Data_Entry_2017.csv",
    "Data_Entry_2017_v2020.csv",
    "Data_Entry_2017.csv.gz",
    "Data_Entry_2017_v2020.csv.gz",
)
LISTS = {"train_val": "train_val_list.txt", "test": "test_list.txt"}
NO_FINDING = "No Finding"
# Frozen: a trained backbone's outputs follow this order.
FINDINGS = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Effusion",
    "Emphysema",
    "Fibrosis",
    "Hernia",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pleural_Thickening",
    "Pneumonia",
    "Pneumothorax",
    NO_FINDING,
)


class Entry(NamedTuple):
    """One row of the data entry table."""

    findings: tuple[str, ...]
    patient: str
    age: int | None
    sex: str | None
    view: str | None


def read_entries(path: Path, scratch: Scratch, issues: IssueSink) -> Table[Entry]:
    """Read ``Data_Entry_2017.csv``: file name -> findings and patient.

    Args:
        path: the file.
        scratch: holds the table.
        issues: gets what is wrong with it.

    Raises:
        DataError: the file cannot be read, or a column is missing.
    """
    table: Table[Entry] = Table.on_disk(path.name, scratch, issues)
    for line, row in read_rows(path, ("Image Index", "Finding Labels", "Patient ID")):
        name = row["Image Index"]
        findings = row["Finding Labels"].split("|")
        unknown = [finding for finding in findings if finding not in FINDINGS]
        if not name:
            table.refuse(name, line, "Image Index", "is empty")
        elif name.startswith("_"):
            # images are stored below the part before "_"; an empty one would make the path absolute
            table.refuse(name, line, "Image Index", "begins with '_', expected <patient>_<number>.png")
        elif name in table.rows or name in table.refused:
            table.refuse(name, line, "Image Index", "a second row for this image, neither is used")
        elif unknown:
            cause = f"unknown finding {unknown[0]!r}, expected among {', '.join(FINDINGS)}"
            table.refuse(name, line, "Finding Labels", cause)
        elif NO_FINDING in findings and len(findings) > 1:
            table.refuse(name, line, "Finding Labels", f"{NO_FINDING!r} beside a finding")
        elif not row["Patient ID"]:
            table.refuse(name, line, "Patient ID", "is empty")
        else:
            sex = row.get("Patient Gender") or row.get("Patient Sex") or None
            age, view = _years(row.get("Patient Age", "")), row.get("View Position") or None
            # In the frozen order, each finding once.
            ordered = tuple(finding for finding in FINDINGS if finding in findings)
            table.rows[name] = Entry(ordered, row["Patient ID"], age, sex, view)
    return table


def read_lists(raw: Path, scratch: Scratch) -> MutableMapping[str, str]:
    """Read the publisher's split: file name -> ``'train_val'`` or ``'test'``; empty where there is none.

    Args:
        raw: the folder.
        scratch: holds the names.

    Raises:
        DataError: only one of the two lists is there, or they share a name.
    """
    present = {side: raw / name for side, name in LISTS.items() if (raw / name).exists()}
    sides = scratch.map()
    for side, name in LISTS.items():
        if present and side not in present:
            raise DataError(f"{raw / name}: missing, though {next(iter(present.values())).name} is there")
    for side, path in present.items():
        for name in _words(path):
            if sides.setdefault(name, side) != side:
                raise DataError(f"{path}: {name!r} is in both lists")
    return sides


def read_folder(raw: Path, scratch: Scratch) -> LabelledFolder:
    """Join the tables of a raw NIH folder with its files.

    Args:
        raw: the folder.
        scratch: holds what is read.

    Raises:
        DataError: the table is missing or malformed, a list is missing beside the other, or there is no PNG.
    """
    skipped = Issues(scratch.map())
    table = next((raw / name for name in DATA_ENTRY if (raw / name).exists()), raw / DATA_ENTRY[0])
    entries = read_entries(table, scratch, skipped)
    sides = read_lists(raw, scratch)
    listed = len(sides) > 0
    found = _find_images(raw, scratch, skipped)
    samples = scratch.map()
    for name, *parts in map(parted, found):
        path = Path(*parts)
        if name in entries.refused:
            continue  # its row is listed already
        entry, side = entries.rows.get(name), sides.get(name) if listed else None
        if path.stem in samples:
            cause = f"a second file of this name, {samples[path.stem].source.relative_to(raw)} is used"
        elif entry is None:
            cause = f"no row in {entries.name}"
        elif listed and side is None:
            cause = f"in neither {LISTS['train_val']} nor {LISTS['test']}"
        else:
            samples[path.stem] = _sample(raw / path, entry, entries.name, side)
            continue
        skipped.append(Issue(path.as_posix(), "Image Index", cause))
    for name in missing(entries.rows, (parted(key)[0] for key in found)):
        skipped.append(Issue(entries.name, f"Image Index {name!r}", "no such file below images*/"))
    return LabelledFolder(samples, skipped, classes=FINDINGS, categories=FINDINGS)


def _sample(path: Path, entry: Entry, table: str, side: str | None) -> Sample:
    return Sample(
        image_id=path.stem,
        path=str(path),
        file_name=f"{path.stem.partition('_')[0]}/{path.stem}.png",
        study_id=path.stem,
        classes=entry.findings,
        label_file=table,
        patient=entry.patient,
        official=side,
        extra={"labels": list(entry.findings), "age": entry.age, "sex": entry.sex, "view": entry.view},
    )


def _find_images(raw: Path, scratch: Scratch, skipped: Issues) -> MutableMapping[str, None]:
    """The names of all PNG files, each with the parts of its path, as :func:`joined` keys."""
    folders = sorted(folder for folder in raw.glob("images*") if folder.is_dir())
    if not folders:
        raise DataError(f"{raw}: no folder images*/ in it")
    found = scratch.map()
    empty: list[DataError] = []
    for folder in folders:
        unreadable = Issues(scratch.map())
        try:
            for path in find_files(folder, ".png", unreadable):
                found[joined(path.name, *path.relative_to(raw).parts)] = None
        except DataError as error:
            empty.append(error)
        else:
            skipped.extend(unreadable)
    if len(empty) == len(folders):
        raise empty[0]
    return found


def _words(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            for line in file:
                yield from line.split()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def _years(text: str) -> int | None:
    """Age in years from ``58`` (2020 edition) or ``058Y`` (2017: Y, M or D)."""
    match = re.fullmatch(r"(\d{1,3})([YMD]?)", text)
    if not match:
        return None
    return int(match[1]) // {"Y": 1, "": 1, "M": 12, "D": 365}[match[2]]
