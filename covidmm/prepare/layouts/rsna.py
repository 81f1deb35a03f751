"""RSNA Pneumonia Detection Challenge 2018.

``RAW/stage_2_train_images/<patient>.dcm``, ``RAW/stage_2_train_labels.csv`` (one row per box) and, where it
is there, ``RAW/stage_2_detailed_class_info.csv``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from covidmm.prepare.box_values import numbers
from covidmm.prepare.label_files import Table, count_others, find_files, join_files, read_rows
from covidmm.prepare.options import Options
from covidmm.prepare.samples import Box, Issue, LabelledBox, LabelledFolder, Sample

LABEL_CSV = "stage_2_train_labels.csv"
CLASS_CSV = "stage_2_detailed_class_info.csv"
IMAGES = "stage_2_train_images"
CLASSES = ("Normal", "No Lung Opacity / Not Normal", "Lung Opacity")
UNKNOWN = "No Lung Opacity"
"""Stands for the first two where the class table is missing."""


def read_patients(path: Path) -> Table[tuple[Box, ...]]:
    """Read ``stage_2_train_labels.csv``: patient -> boxes of the one image. A bad row makes its patient unusable.

    Raises:
        DataError: the file cannot be read, or a column is missing.
    """
    table: Table[tuple[Box, ...]] = Table(path.name)
    target: dict[str, str] = {}
    for line, row in read_rows(path, ("patientId", "x", "y", "width", "height", "Target")):
        patient = row["patientId"]
        with table.reading(patient, line):
            if not patient:
                raise ValueError("patientId: is empty")
            if target.setdefault(patient, row["Target"]) != row["Target"]:
                raise ValueError("Target: differs between the rows of this patient")
            boxes = _row_boxes(row)
            if patient not in table.refused:
                table.rows[patient] = table.rows.get(patient, ()) + boxes
    return table


def read_classes(path: Path) -> Table[str]:
    """Read ``stage_2_detailed_class_info.csv``: patient -> one of ``CLASSES``; empty where there is no such file.

    Raises:
        DataError: the file cannot be read, or a column is missing.
    """
    table: Table[str] = Table(path.name)
    if not path.exists():
        return table
    for line, row in read_rows(path, ("patientId", "class")):
        patient, name = row["patientId"], row["class"]
        with table.reading(patient, line):
            if name not in CLASSES:
                raise ValueError(f"class: unknown class {name!r}, expected one of {CLASSES}")
            if patient not in table.refused and table.rows.setdefault(patient, name) != name:
                raise ValueError(f"class: {name!r} contradicts {table.rows[patient]!r} above")
    return table


def read_folder(raw: Path, options: Options) -> LabelledFolder:
    """Join the tables of a raw RSNA folder with its files; without ``negatives`` only images with a lung opacity.

    Raises:
        DataError: a table is missing or malformed, or there is no DICOM file.
    """
    patients = read_patients(raw / LABEL_CSV)
    classes = read_classes(raw / CLASS_CSV)
    skipped = [*patients.issues, *classes.issues]
    others: list[Path] = []
    files = find_files(raw / IMAGES, ".dcm", skipped, others)
    left_out = 0

    def sample_of(path: Path, earlier: Sample | None) -> Sample | None:
        nonlocal left_out
        patient = path.stem
        if patient in patients.refused or patient in classes.refused:
            return None  # its row is listed already
        if patient not in patients:
            raise ValueError(f"patientId: no row in {LABEL_CSV}")
        if earlier:
            raise ValueError("patientId: a second file of this image")
        boxes = patients.rows[patient]
        if not (boxes or options.negatives):
            left_out += 1
            return None
        class_name = classes.rows.get(patient)
        return Sample(
            image_id=patient,
            source=path,
            file_name=f"{patient}.png",
            study_id=patient,
            classes=(class_name or ("Lung Opacity" if boxes else UNKNOWN),),
            boxes=tuple(map(LabelledBox, boxes)),
            label_file=LABEL_CSV,
            patient=patient,
            extra={"rsna_class": class_name},
        )

    samples = join_files(raw, files, sample_of, skipped)
    for patient in sorted(patients.rows.keys() - {path.stem for path in files}):
        if patients.rows[patient] or options.negatives:
            skipped.append(Issue(LABEL_CSV, f"patientId {patient!r}", f"no such file in {IMAGES}/"))
    return LabelledFolder(
        samples,
        skipped,
        (*CLASSES, UNKNOWN),
        left_out={
            **({"without a lung opacity (--negatives keeps them)": left_out} if left_out else {}),
            **count_others(others),
        },
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
    values = numbers({column: row[column] for column in columns})
    return ((values[0], values[1], values[2], values[3]),)
