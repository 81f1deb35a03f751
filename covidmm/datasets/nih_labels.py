"""Reads the raw NIH ChestX-ray14 layout.

``RAW/images*/**/*.png``, ``RAW/Data_Entry_2017.csv`` (2017 or 2020 edition, plain or gzipped) and, where they
are there, the publisher's ``train_val_list.txt`` and ``test_list.txt``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from covidmm.datasets.samples import Issue, LabelledFolder, Sample
from covidmm.datasets.tables import Table, find_files, read_rows
from covidmm.errors import DataError

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


def read_entries(path: Path) -> Table[Entry]:
    """Read ``Data_Entry_2017.csv``: file name -> findings and patient.

    Raises:
        DataError: the file cannot be read, or a column is missing.
    """
    table: Table[Entry] = Table(path.name)
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


def read_lists(raw: Path) -> dict[str, str]:
    """Read the publisher's split: file name -> ``'train_val'`` or ``'test'``; empty where there is none.

    Raises:
        DataError: only one of the two lists is there, or they share a name.
    """
    present = {side: raw / name for side, name in LISTS.items() if (raw / name).exists()}
    if not present:
        return {}
    for side, name in LISTS.items():
        if side not in present:
            raise DataError(f"{raw / name}: missing, though {next(iter(present.values())).name} is there")
    sides: dict[str, str] = {}
    for side, path in present.items():
        try:
            names = path.read_text(encoding="utf-8-sig").split()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: cannot be read: {error}") from error
        for name in names:
            if sides.setdefault(name, side) != side:
                raise DataError(f"{path}: {name!r} is in both lists")
    return sides


def read_folder(raw: Path) -> LabelledFolder:
    """Join the tables of a raw NIH folder with its files.

    Raises:
        DataError: the table is missing or malformed, a list is missing beside the other, or there is no PNG.
    """
    entries = read_entries(next((raw / name for name in DATA_ENTRY if (raw / name).exists()), raw / DATA_ENTRY[0]))
    sides = read_lists(raw)
    files, unreadable = _find_images(raw)
    skipped = [*entries.issues, *unreadable]
    samples: dict[str, Sample] = {}
    for path in files:
        name = path.name
        if name in entries.refused:
            continue  # its row is listed already
        if name in samples:
            cause = f"a second file of this name, {samples[name].source.relative_to(raw)} is used"
        elif name not in entries.rows:
            cause = f"no row in {entries.name}"
        elif sides and name not in sides:
            cause = f"in neither {LISTS['train_val']} nor {LISTS['test']}"
        else:
            samples[name] = _sample(path, entries.rows[name], entries.name, sides.get(name))
            continue
        skipped.append(Issue(path.relative_to(raw).as_posix(), "Image Index", cause))
    for name in sorted(set(entries.rows) - {path.name for path in files}):
        skipped.append(Issue(entries.name, f"Image Index {name!r}", "no such file below images*/"))
    return LabelledFolder(
        tuple(samples[key] for key in sorted(samples)), tuple(skipped), classes=FINDINGS, categories=FINDINGS
    )


def _sample(path: Path, entry: Entry, table: str, side: str | None) -> Sample:
    return Sample(
        image_id=path.stem,
        source=path,
        file_name=f"{path.stem.partition('_')[0]}/{path.stem}.png",
        study_id=path.stem,
        classes=entry.findings,
        label_file=table,
        patient=entry.patient,
        official=side,
        extra={"labels": list(entry.findings), "age": entry.age, "sex": entry.sex, "view": entry.view},
    )


def _find_images(raw: Path) -> tuple[list[Path], list[Issue]]:
    folders = sorted(folder for folder in raw.glob("images*") if folder.is_dir())
    if not folders:
        raise DataError(f"{raw}: no folder images*/ in it")
    files: list[Path] = []
    issues: list[Issue] = []
    empty: list[DataError] = []
    for folder in folders:
        try:
            found, unreadable = find_files(folder, ".png")
        except DataError as error:
            empty.append(error)
            continue
        files += found
        issues += unreadable
    if not files:
        raise empty[0]
    return files, issues


def _years(text: str) -> int | None:
    """Age in years from ``58`` (2020 edition) or ``058Y`` (2017: Y, M or D)."""
    match = re.fullmatch(r"(\d{1,3})([YMD]?)", text)
    if not match:
        return None
    return int(match[1]) // {"Y": 1, "": 1, "M": 12, "D": 365}[match[2]]
