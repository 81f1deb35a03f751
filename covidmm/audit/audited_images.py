"""Reads prepared folders into one flat list of images with their labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covidmm.datasets.prepared_folder import require_entries
from covidmm.errors import DataError
from covidmm.prepare import splits
from covidmm.prepare.layouts.nih import NO_FINDING
from covidmm.utils.fileio import json_value

_REQUIRED = ("id", "file_name", "width", "height", "image_id", "study_id")


@dataclass(frozen=True)
class Entry:
    """One image of a prepared folder.

    Attributes:
        dataset: short name of its folder, unique in one audit.
        root: the prepared folder.
        split: ``'train'``, ``'val'`` or ``'test'``.
        image: its entry in the COCO file.
        boxes: (N, 4) float64, x y width height in pixels of the PNG.
    """

    dataset: str
    root: Path
    split: str
    image: dict[str, Any]
    boxes: NDArray[np.float64]

    @property
    def path(self) -> Path:
        """The PNG."""
        return self.root / "images" / self.image["file_name"]

    @property
    def name(self) -> str:
        """Data set and image id, for people."""
        return f"{self.dataset}/{self.image['image_id']}"

    @property
    def study(self) -> str:
        """The study's id."""
        return str(self.image["study_id"])

    @property
    def patient(self) -> str | None:
        """The patient's id, None where it is unknown."""
        return self.image.get("patient") or None

    @property
    def classes(self) -> tuple[str, ...]:
        """Study class, RSNA class, findings, or whether there is a box: whichever the data set has."""
        for key in ("study_class", "rsna_class"):
            if self.image.get(key):
                return (str(self.image[key]),)
        if "labels" in self.image:
            return tuple(self.image["labels"])
        return ("opacity" if len(self.boxes) else "no opacity",)

    @property
    def positive(self) -> bool:
        """Whether anything was found on it: not negative, not 'No Finding', or boxed."""
        if self.image.get("study_class"):
            return self.image["study_class"] != "negative"
        if "labels" in self.image:
            return self.image["labels"] != [NO_FINDING]
        return len(self.boxes) > 0


def owners(entries: Sequence[Entry]) -> list[str]:
    """Whose image each is: images of one study or one patient have the same key, within their data set.

    A patient id that stands in more than half of a data set's studies names nobody.
    """
    nobody = unnamed_patients(entries)
    shared = []
    for index, entry in enumerate(entries):
        shared.append((f"study {entry.dataset} {entry.study}", str(index)))
        if entry.patient and (entry.dataset, entry.patient) not in nobody:
            shared.append((f"patient {entry.dataset} {entry.patient}", str(index)))
    groups = splits.group(sorted(shared), (), {})
    return [groups.first(str(index)) for index in range(len(entries))]


def unnamed_patients(entries: Sequence[Entry]) -> dict[tuple[str, str], int]:
    """(data set, patient id) of ids that name nobody -> number of its studies; see ``splits.placeholders``."""
    studies: dict[str, set[str]] = defaultdict(set)
    patients: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for entry in entries:
        studies[entry.dataset].add(entry.study)
        if entry.patient:
            patients[entry.dataset].add((entry.patient, entry.study))
    return {
        (dataset, patient): count
        for dataset, own in patients.items()
        for patient, count in splits.placeholders(sorted(own), len(studies[dataset])).items()
    }


def read_folders(folders: Sequence[Path]) -> list[Entry]:
    """Every image of prepared folders, in the order of folder, split and id.

    Raises:
        DataError: a folder was not made by ``tools/prepare.py``, is named twice, or an annotation file is damaged.
    """
    resolved = [folder.resolve() for folder in folders]
    if twice := {str(folder) for folder in resolved if resolved.count(folder) > 1}:
        raise DataError(f"{min(twice)}: is named twice")
    entries: list[Entry] = []
    for folder, name in zip(resolved, _names(resolved), strict=True):
        files = [folder / "annotations" / f"{split}.json" for split in splits.SPLITS]
        present = [path for path in files if path.is_file()]
        if not present:
            raise DataError(f"{folder}: holds no annotations/train.json, val.json or test.json; see tools/prepare.py")
        for path in present:
            entries += _read_split(path, folder, name)
    if not entries:
        raise DataError(f"{resolved[0]}: holds no image")
    return entries


def _names(folders: Sequence[Path]) -> list[str]:
    """The folders' own names, longer where two are the same."""
    depth = 1
    while True:
        names = ["/".join(folder.parts[-depth:]) for folder in folders]
        if len(set(names)) == len(names):
            return names
        depth += 1


def _read_split(path: Path, root: Path, name: str) -> list[Entry]:
    try:
        content = json_value(path.read_text())
        boxes: dict[int, list[list[float]]] = defaultdict(list)
        known = {image["id"] for image in content["images"]}
        for annotation in content["annotations"]:
            if annotation["image_id"] not in known:
                raise DataError(f"{path}: a box belongs to image {annotation['image_id']}, which it does not have")
            boxes[annotation["image_id"]].append(annotation["bbox"])
        for image in content["images"]:
            if missing := [key for key in _REQUIRED if key not in image]:
                raise DataError(f"{path}: image {image['id']} has no {missing[0]}; prepare the data set again")
        require_entries(path, content["images"], content["annotations"])
        return [
            Entry(name, root, path.stem, image, np.array(boxes[image["id"]], np.float64).reshape(-1, 4))
            for image in sorted(content["images"], key=lambda image: image["id"])
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not a COCO annotation file ({type(error).__name__}: {error})") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
