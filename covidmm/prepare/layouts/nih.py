"""NIH ChestX-ray14.

``RAW/images*/**/*.png``, ``RAW/Data_Entry_2017.csv`` (2017 or 2020 edition, plain or gzipped) and, where they
are there, the publisher's ``train_val_list.txt`` and ``test_list.txt``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from covidmm.errors import DataError
from covidmm.prepare.label_files import Table, count_others, find_files, join_files, read_rows
from covidmm.prepare.options import Options
from covidmm.prepare.samples import Issue, LabelledFolder, Sample

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
        with table.reading(name, line):
            if not name:
                raise ValueError("Image Index: is empty")
            if name.startswith("_"):
                # images are stored below the part before "_"; an empty one would make the path absolute
                raise ValueError("Image Index: begins with '_', expected <patient>_<number>.png")
            if name in table:
                raise ValueError("Image Index: a second row for this image, neither is used")
            if unknown:
                expected = ", ".join(FINDINGS)
                raise ValueError(f"Finding Labels: unknown finding {unknown[0]!r}, expected among {expected}")
            if NO_FINDING in findings and len(findings) > 1:
                raise ValueError(f"Finding Labels: {NO_FINDING!r} beside a finding")
            if not row["Patient ID"]:
                raise ValueError("Patient ID: is empty")
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
    sides: dict[str, str] = {}
    for side, name in LISTS.items():
        if present and side not in present:
            raise DataError(f"{raw / name}: missing, though {next(iter(present.values())).name} is there")
    for side, path in present.items():
        try:
            names = path.read_text(encoding="utf-8-sig").split()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: cannot be read: {error}") from error
        for name in names:
            if sides.setdefault(name, side) != side:
                raise DataError(f"{path}: {name!r} is in both lists")
    return sides


def read_folder(raw: Path, options: Options) -> LabelledFolder:
    """Join the tables of a raw NIH folder with its files.

    Raises:
        DataError: the table is missing or malformed, a list is missing beside the other, or there is no PNG.
    """
    table = next((raw / name for name in DATA_ENTRY if (raw / name).exists()), raw / DATA_ENTRY[0])
    entries = read_entries(table)
    sides = read_lists(raw)
    skipped = entries.issues
    others: list[Path] = []
    files = sorted(_find_images(raw, skipped, others), key=lambda path: (path.name, path.parts))

    def sample_of(path: Path, earlier: Sample | None) -> Sample | None:
        if path.name in entries.refused:
            return None  # its row is listed already
        if earlier:
            used = earlier.source.relative_to(raw)
            raise ValueError(f"Image Index: a second file of this name, {used} is used")
        if path.name not in entries:
            raise ValueError(f"Image Index: no row in {entries.name}")
        if sides and path.name not in sides:
            raise ValueError(f"Image Index: in neither {LISTS['train_val']} nor {LISTS['test']}")
        entry = entries.rows[path.name]
        return Sample(
            image_id=path.stem,
            source=path,
            file_name=f"{path.stem.partition('_')[0]}/{path.stem}.png",
            study_id=path.stem,
            classes=entry.findings,
            label_file=entries.name,
            patient=entry.patient,
            official=sides.get(path.name),
            extra={"labels": list(entry.findings), "age": entry.age, "sex": entry.sex, "view": entry.view},
        )

    samples = join_files(raw, files, sample_of, skipped)
    for name in sorted(entries.rows.keys() - {path.name for path in files}):
        skipped.append(Issue(entries.name, f"Image Index {name!r}", "no such file below images*/"))
    return LabelledFolder(samples, skipped, classes=FINDINGS, categories=FINDINGS, left_out=count_others(others))


def _find_images(raw: Path, skipped: list[Issue], others: list[Path]) -> list[Path]:
    folders = sorted(folder for folder in raw.glob("images*") if folder.is_dir())
    if not folders:
        raise DataError(f"{raw}: no folder images*/ in it")
    found: list[Path] = []
    empty: list[DataError] = []
    for folder in folders:
        unreadable: list[Issue] = []
        try:
            found += find_files(folder, ".png", unreadable, others)
        except DataError as error:
            empty.append(error)
        else:
            skipped += unreadable
    if not found:
        raise empty[0]
    return found


def _years(text: str) -> int | None:
    """Age in years from ``58`` (2020 edition) or ``058Y`` (2017: Y, M or D)."""
    match = re.fullmatch(r"(\d{1,3})([YMD]?)", text)
    if not match:
        return None
    return int(match[1]) // {"Y": 1, "": 1, "M": 12, "D": 365}[match[2]]
