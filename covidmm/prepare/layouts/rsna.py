"""Reads the raw RSNA Pneumonia Detection Challenge (2018) layout.

``RAW/stage_2_train_images/<patient>.dcm``, ``RAW/stage_2_train_labels.csv`` (one row per box) and, where it
is there, ``RAW/stage_2_detailed_class_info.csv``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from covidmm.prepare.label_files import Table, find_files, missing, number, read_rows
from covidmm.prepare.samples import Box, Issue, Issues, IssueSink, LabelledFolder, Sample
from covidmm.prepare.scratch import Scratch, joined, parted

LABEL_CSV = "stage_2_train_labels.csv"
CLASS_CSV = "stage_2_detailed_class_info.csv"
IMAGES = "stage_2_train_images"
CLASSES = ("Normal", "No Lung Opacity / Not Normal", "Lung Opacity")
UNKNOWN = "No Lung Opacity"
"""Stands for the first two where the class table is missing."""


class Patient(NamedTuple):
    """What the label table says of one patient, who has one image."""

    boxes: tuple[Box, ...]


def read_patients(path: Path, scratch: Scratch, issues: IssueSink) -> Table[Patient]:
    """Read ``stage_2_train_labels.csv``: patient -> boxes. A patient with one bad row is left out whole.

    Args:
        path: the file.
        scratch: holds the table.
        issues: gets what is wrong with it.

    Raises:
        DataError: the file cannot be read, or a column is missing.
    """
    table: Table[Patient] = Table.on_disk(path.name, scratch, issues)
    target = scratch.map()
    for line, row in read_rows(path, ("patientId", "x", "y", "width", "height", "Target")):
        patient = row["patientId"]
        try:
            if not patient:
                raise ValueError("patientId: is empty")
            if target.setdefault(patient, row["Target"]) != row["Target"]:
                raise ValueError("Target: differs between the rows of this patient")
            boxes = _row_boxes(row)
        except ValueError as error:
            column, _, cause = str(error).partition(": ")
            table.refuse(patient, line, column, cause)
        else:
            if patient not in table.refused:
                above = table.rows.get(patient, Patient(()))
                table.rows[patient] = Patient(above.boxes + boxes)
    return table


def read_classes(path: Path, scratch: Scratch, issues: IssueSink) -> Table[str]:
    """Read ``stage_2_detailed_class_info.csv``: patient -> one of ``CLASSES``; empty where there is no such file.

    Args:
        path: the file.
        scratch: holds the table.
        issues: gets what is wrong with it.

    Raises:
        DataError: the file cannot be read, or a column is missing.
    """
    table: Table[str] = Table.on_disk(path.name, scratch, issues)
    if not path.exists():
        return table
    for line, row in read_rows(path, ("patientId", "class")):
        patient, name = row["patientId"], row["class"]
        if name not in CLASSES:
            table.refuse(patient, line, "class", f"unknown class {name!r}, expected one of {CLASSES}")
        elif patient not in table.refused and table.rows.setdefault(patient, name) != name:
            table.refuse(patient, line, "class", f"{name!r} contradicts {table.rows[patient]!r} above")
    return table


def read_folder(raw: Path, scratch: Scratch, negatives: bool = False) -> LabelledFolder:
    """Join the tables of a raw RSNA folder with its files.

    Args:
        raw: the folder.
        scratch: holds what is read.
        negatives: keep the images without a lung opacity too.

    Raises:
        DataError: a table is missing or malformed, or there is no DICOM file.
    """
    skipped = Issues(scratch.map())
    patients = read_patients(raw / LABEL_CSV, scratch, skipped)
    classes = read_classes(raw / CLASS_CSV, scratch, skipped)
    found = scratch.map()
    for path in find_files(raw / IMAGES, ".dcm", skipped):
        found[joined(path.stem, *path.relative_to(raw).parts)] = None
    samples = scratch.map()
    left_out = 0
    for patient, *parts in map(parted, found):
        path = Path(*parts)
        if patient in patients.refused or patient in classes.refused:
            continue  # its row is listed already
        row = patients.rows.get(patient)
        if row is None or patient in samples:
            cause = f"no row in {LABEL_CSV}" if row is None else "a second file of this image"
            skipped.append(Issue(path.as_posix(), "patientId", cause))
        elif row.boxes or negatives:
            samples[patient] = _sample(raw / path, row, classes.rows.get(patient))
        else:
            left_out += 1
    for patient in missing(patients.rows, (parted(key)[0] for key in found)):
        if patients.rows[patient].boxes or negatives:
            skipped.append(Issue(LABEL_CSV, f"patientId {patient!r}", f"no such file in {IMAGES}/"))
    return LabelledFolder(
        samples,
        skipped,
        (*CLASSES, UNKNOWN),
        left_out={"without a lung opacity (--negatives keeps them)": left_out} if left_out else {},
    )


def _sample(path: Path, patient: Patient, class_name: str | None) -> Sample:
    fallback = "Lung Opacity" if patient.boxes else UNKNOWN
    return Sample(
        image_id=path.stem,
        path=str(path),
        file_name=f"{path.stem}.png",
        study_id=path.stem,
        classes=(class_name or fallback,),
        boxes=patient.boxes,
        label_file=LABEL_CSV,
        patient=path.stem,
        extra={"rsna_class": class_name},
    )


def _row_boxes(row: Mapping[str, str]) -> tuple[Box, ...]:
    """The boxes of one row: one where Target is 1, none where it is 0."""
    columns = ("x", "y", "width", "height")
    if row["Target"] == "0":
        if any(row[column] for column in columns):
            raise ValueError("Target: is 0, yet the row has a box")
        return ()
    if row["Target"] != "1":
        raise ValueError(f"Target: expected 0 or 1, got {row['Target']!r}")
    values = []
    for column in columns:
        try:
            values.append(number(row[column]))
        except ValueError as error:
            raise ValueError(f"{column}: {error}") from None
    return ((values[0], values[1], values[2], values[3]),)
