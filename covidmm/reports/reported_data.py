"""Prepared folders as the report reads them: images, boxes and what the manifest says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covidmm.datasets.prepared_folder import require_entries
from covidmm.errors import DataError
from covidmm.prepare.pipeline import MANIFEST
from covidmm.prepare.splits import SPLITS
from covidmm.utils.boxes import corners
from covidmm.utils.fileio import json_value
from covidmm.utils.provenance import sha256

_REQUIRED = ("id", "file_name", "width", "height", "original_width", "original_height", "image_id", "study_id")


@dataclass(frozen=True)
class Split:
    """One annotation file.

    Attributes:
        path: the file.
        images: its entries, by rising id.
        boxes: per image (M, 4) float64 x1 y1 x2 y2 in pixels of the prepared image.
    """

    path: Path
    images: Sequence[Mapping[str, Any]]
    boxes: Sequence[NDArray[np.float64]]

    @cached_property
    def sha256(self) -> str:
        """Of the annotation file, as provenances name it."""
        return sha256(self.path)

    @property
    def folder(self) -> Path:
        """The prepared folder."""
        return self.path.parent.parent

    def class_counts(self) -> Counter[str]:
        """Images per class: of the study, of RSNA, the findings, or whether there is a box."""
        return Counter(
            name for image, boxes in zip(self.images, self.boxes, strict=True) for name in _classes(image, boxes)
        )


@dataclass(frozen=True)
class Prepared:
    """A prepared folder; ``manifest`` is empty where ``prepared.json`` is missing or damaged."""

    name: str
    folder: Path
    manifest: Mapping[str, Any]
    splits: Mapping[str, Split]

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several labels."""
        return any("labels" in image for split in self.splits.values() for image in split.images)

    @property
    def boxed(self) -> bool:
        """Whether there is a box at all."""
        return any(len(boxes) for split in self.splits.values() for boxes in split.boxes)

    def box_areas(self) -> NDArray[np.float64]:
        """(B,) areas of all boxes in pixels of the original images."""
        areas = []
        for split in self.splits.values():
            for image, boxes in zip(split.images, split.boxes, strict=True):
                scale = image["original_width"] / image["width"] * image["original_height"] / image["height"]
                areas.append(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) * scale)
        return np.concatenate([np.zeros(0), *areas])


def read_prepared(folder: Path) -> Prepared:
    """Read a folder of ``tools/prepare.py``.

    Raises:
        DataError: it is none, or an annotation file is damaged.
    """
    files = {name: folder / "annotations" / f"{name}.json" for name in SPLITS}
    splits = {name: read_split(path) for name, path in files.items() if path.is_file()}
    if not any(split.images for split in splits.values()):
        raise DataError(f"{folder}: no annotations of any image in it; make it with tools/prepare.py")
    try:
        manifest = dict(json_value((folder / MANIFEST).read_text()))
    except (OSError, ValueError, TypeError):
        manifest = {}
    return Prepared(folder.resolve().name, folder, manifest, splits)


def read_split(path: Path) -> Split:
    """Read one annotation file.

    Raises:
        DataError: missing or damaged.
    """
    try:
        content = json_value(path.read_text())
        images = sorted(content["images"], key=lambda image: image["id"])
        grouped: dict[int, list[Any]] = {image["id"]: [] for image in images}
        for image in images:
            if missing := [key for key in _REQUIRED if key not in image]:
                raise DataError(f"{path}: image {image['id']} has no {missing[0]}; prepare the data set again")
        require_entries(path, images, content["annotations"])
        for annotation in content["annotations"]:
            grouped[annotation["image_id"]].append(annotation["bbox"])
        return Split(path, images, [corners(grouped[image["id"]]) for image in images])
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not an annotation file ({type(error).__name__}: {error})") from error


def _classes(image: Mapping[str, Any], boxes: NDArray[np.float64]) -> Sequence[str]:
    for key in ("study_class", "rsna_class"):
        if image.get(key):
            return (str(image[key]),)
    return image.get("labels") or ("opacity" if len(boxes) else "no opacity",)
