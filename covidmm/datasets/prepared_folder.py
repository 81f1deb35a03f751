"""Prepared folders read back: images with their labels, and the manifest.

Everything that reads the images of ``annotations/*.json`` or ``prepared.json`` reads it here, with the same checks:
they may have been edited.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from covidmm.datasets.annotated_image import AnnotatedImage
from covidmm.datasets.annotations import read_annotations
from covidmm.errors import DataError
from covidmm.findings import OPACITY, STUDY_CLASSES
from covidmm.prepare.samples import Issue
from covidmm.prepare.splits import MANIFEST, SPLITS
from covidmm.utils.boxes import areas, corners
from covidmm.utils.fileio import json_value
from covidmm.utils.provenance import sha256

#: What ``tools/prepare.py`` writes for every image; None where it is unknown.
_REQUIRED = (
    *("file_name", "width", "height", "original_width", "original_height"),
    *("image_id", "study_id", "study_class", "fold", "patient"),
)


@dataclass(frozen=True, eq=False)
class PreparedSplit:
    """One annotation file of a prepared folder.

    Attributes:
        path: the file.
        images: by rising number (``coco['id']``).
        categories: names of the box classes, by class index.
        category_ids: their ids in the file, by class index.
    """

    path: Path
    images: tuple[AnnotatedImage, ...]
    categories: tuple[str, ...] = OPACITY
    category_ids: tuple[int, ...] = (1,)

    @cached_property
    def sha256(self) -> str:
        """Of the annotation file, as provenances name it."""
        return sha256(self.path)

    @property
    def folder(self) -> Path:
        """The prepared folder."""
        return self.path.parent.parent

    def class_counts(self) -> Counter[str]:
        """Images per class, see :attr:`AnnotatedImage.classes`; one with several classes counts for each."""
        return Counter(name for image in self.images for name in image.classes)


class Reading(NamedTuple):
    """What reading a folder that nobody prepared made of its labels."""

    skipped: list[Issue]
    """What could not be used."""
    changed: list[Issue]
    """Such as boxes that were cut to their image."""


@dataclass(frozen=True, eq=False)
class PreparedFolder:
    """A prepared folder; ``manifest`` is empty where ``prepared.json`` is missing or damaged.

    ``reading`` is set of a folder that nobody prepared, see :mod:`covidmm.datasets.unprepared`.
    """

    name: str
    folder: Path
    manifest: Mapping[str, Any]
    splits: Mapping[str, PreparedSplit]
    reading: Reading | None = None

    @property
    def images(self) -> list[AnnotatedImage]:
        """Those of all splits, in the order of split and number."""
        return [image for split in self.splits.values() for image in split.images]

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several labels."""
        return any(image.findings is not None for image in self.images)

    @property
    def boxed(self) -> bool:
        """Whether there is a box at all."""
        return any(len(image.boxes) for image in self.images)

    def box_areas(self) -> NDArray[np.float64]:
        """(B,) areas of all boxes in pixels of the original images."""
        return np.concatenate([np.zeros(0), *(areas(image.original_boxes) for image in self.images)])


def read_prepared(folder: Path, name: str | None = None) -> PreparedFolder:
    """Read a folder of ``tools/prepare.py``.

    Args:
        folder: the folder.
        name: what to call it; None: as the folder is called.

    Raises:
        DataError: it is none, holds no image, or an annotation file is missing something or damaged.
    """
    name = name or folder.resolve().name
    files = {split: folder / "annotations" / f"{split}.json" for split in SPLITS}
    splits = {split: read_split(path, name, empty=True) for split, path in files.items() if path.is_file()}
    if not splits:
        raise DataError(f"{folder}: holds no annotations/train.json, val.json or test.json; see tools/prepare.py")
    if not any(split.images for split in splits.values()):
        raise DataError(f"{folder}: holds no image; make it again with tools/prepare.py")
    manifest: dict[str, Any] = {}
    with suppress(DataError):  # it describes images and labels, which are readable without it
        manifest = read_manifest(folder)
    return PreparedFolder(name, folder, manifest, splits)


def read_split(path: Path, dataset: str | None = None, empty: bool = False) -> PreparedSplit:
    """Read one annotation file of a prepared folder.

    Args:
        path: ``FOLDER/annotations/SPLIT.json``.
        dataset: what to call the folder; None: by its own name.
        empty: accept a file that lists no image.

    Raises:
        DataError: as :func:`~covidmm.datasets.annotations.read_annotations`; an image lacks a key that
            ``tools/prepare.py`` always writes, has no image or study id, or an unknown study class.
    """
    content = read_annotations(path, empty)
    names = tuple(category["name"] for category in content["categories"])
    grouped: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for annotation in content["annotations"]:
        grouped[annotation["image_id"]].append(annotation)
    ids = {category["id"]: index for index, category in enumerate(content["categories"])}
    folder, split = path.parent.parent, path.stem
    name, pictures = dataset or folder.resolve().name, folder / "images"
    images = []
    for image in sorted(content["images"], key=lambda image: image["id"]):
        _require_prepared(path, image)
        every = grouped[image["id"]]
        own, crowds = ([one for one in every if bool(one.get("iscrowd")) == crowd] for crowd in (False, True))
        images.append(
            AnnotatedImage(
                path=pictures / image["file_name"],
                image_id=image["image_id"],
                study_id=image["study_id"],
                boxes=corners([annotation["bbox"] for annotation in own]),
                labels=np.array([ids[annotation["category_id"]] for annotation in own], np.int64),
                crowds=corners([annotation["bbox"] for annotation in crowds]),
                crowd_labels=np.array([ids[annotation["category_id"]] for annotation in crowds], np.int64),
                size=(image["height"], image["width"]),
                original_size=(image["original_height"], image["original_width"]),
                study_class=image["study_class"],
                findings=tuple(image["labels"]) if "labels" in image else None,
                patient=image["patient"] or None,
                split=split,
                dataset=name,
                categories=names,
                coco=image,
            )
        )
    return PreparedSplit(path, tuple(images), names, tuple(ids))


def read_manifest(folder: Path) -> dict[str, Any]:
    """``prepared.json``; its ``data_sha256`` is the digest of the whole data set, pixels included.

    Raises:
        DataError: there is none, or it is damaged.
    """
    path = folder / MANIFEST
    try:
        manifest = json_value(path.read_text())
        return {**manifest, "data_sha256": str(manifest["data_sha256"])}
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; prepare the data set again") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path}: no JSON with a data_sha256; prepare the data set again") from error


def data_digest(folder: Path) -> str | None:
    """The digest of a prepared data set, pixels included; None where the folder has no manifest.

    Raises:
        DataError: the manifest is damaged.
    """
    return read_manifest(folder)["data_sha256"] if (folder / MANIFEST).is_file() else None


def _require_prepared(path: Path, image: Mapping[str, Any]) -> None:
    for key in _REQUIRED:
        if key not in image or (key in ("image_id", "study_id") and not image[key]):
            raise DataError(f"{path}: image {image['id']} has no {key}; prepare the data set again")
    if image["study_class"] not in (None, *STUDY_CLASSES):
        raise DataError(f"{path}: image {image['id']}: unknown study class '{image['study_class']}'")
