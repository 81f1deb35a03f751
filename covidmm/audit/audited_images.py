"""The folders that are audited, and which of them belong to one patient."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from covidmm.datasets.annotated_image import AnnotatedImage
from covidmm.datasets.prepared_folder import PreparedFolder
from covidmm.datasets.unprepared import read_data_folder
from covidmm.errors import DataError
from covidmm.prepare import splits


def leakage_groups(entries: Sequence[AnnotatedImage]) -> list[str]:
    """The group of each image that must stay on one side: images of one study or patient, within their data set.

    A patient id that more than half of a data set's studies share is a placeholder and joins nothing.
    """
    placeholders = placeholder_patients(entries)
    shared = []
    for index, entry in enumerate(entries):
        shared.append((f"study {entry.dataset} {entry.study_id}", str(index)))
        if entry.patient and (entry.dataset, entry.patient) not in placeholders:
            shared.append((f"patient {entry.dataset} {entry.patient}", str(index)))
    groups = splits.group(shared, ())
    return [groups.first(str(index)) for index in range(len(entries))]


def placeholder_patients(entries: Sequence[AnnotatedImage]) -> dict[tuple[str, str], int]:
    """(data set, patient id) of placeholder ids -> number of its studies; see ``splits.placeholders``."""
    studies: dict[str, set[str]] = defaultdict(set)
    patients: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for entry in entries:
        studies[entry.dataset].add(entry.study_id)
        if entry.patient:
            patients[entry.dataset].add((entry.patient, entry.study_id))
    return {
        (dataset, patient): count
        for dataset, own in patients.items()
        for patient, count in splits.placeholders(sorted(own), len(studies[dataset])).items()
    }


def read_folders(folders: Sequence[Path]) -> list[PreparedFolder]:
    """Folders to audit, prepared or of COCO files, each with a name of its own.

    Raises:
        DataError: a folder is named twice, or cannot be read.
    """
    resolved = [folder.resolve() for folder in folders]
    if twice := {str(folder) for folder in resolved if resolved.count(folder) > 1}:
        raise DataError(f"{min(twice)}: is named twice")
    names = _names(resolved)
    return [read_data_folder(folder, name) for folder, name in zip(resolved, names, strict=True)]


def _names(folders: Sequence[Path]) -> list[str]:
    """The folders' own names, longer where two are the same."""
    depth = 1
    while True:
        names = ["/".join(folder.parts[-depth:]) for folder in folders]
        if len(set(names)) == len(names):
            return names
        depth += 1
