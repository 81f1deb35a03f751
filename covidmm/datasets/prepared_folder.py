"""Prepared folders and COCO files read back: images with their labels, and the manifest.

Everything that reads ``annotations/*.json`` or ``prepared.json`` reads it here, with the same checks: they
may have been edited.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covidmm.datasets.annotated_image import AnnotatedImage
from covidmm.errors import DataError
from covidmm.findings import STUDY_CLASSES
from covidmm.prepare.splits import MANIFEST, SPLITS
from covidmm.utils.boxes import areas, corners
from covidmm.utils.fileio import json_value
from covidmm.utils.provenance import sha256

_PARTS = ("images", "annotations", "categories")
#: What ``tools/prepare.py`` writes for every image; None where it is unknown.
_REQUIRED = (
    *("file_name", "width", "height", "original_width", "original_height"),
    *("image_id", "study_id", "study_class", "fold", "patient"),
)
#: No box is so far away or so large, in pixels; it also holds off infinities. Chosen here.
_FARTHEST = 1e9


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
    categories: tuple[str, ...] = ("opacity",)
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


@dataclass(frozen=True, eq=False)
class PreparedFolder:
    """A prepared folder; ``manifest`` is empty where ``prepared.json`` is missing or damaged."""

    name: str
    folder: Path
    manifest: Mapping[str, Any]
    splits: Mapping[str, PreparedSplit]

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
        DataError: as :func:`read_annotations`; an image lacks a key that ``tools/prepare.py`` always writes, has no
            image or study id, or an unknown study class.
    """
    content = read_annotations(path, empty)
    grouped: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for annotation in content["annotations"]:
        grouped[annotation["image_id"]].append(annotation)
    ids = {category["id"]: index for index, category in enumerate(content["categories"])}
    folder, split = path.parent.parent, path.stem
    name, pictures = dataset or folder.resolve().name, folder / "images"
    images = []
    for image in sorted(content["images"], key=lambda image: image["id"]):
        _require_prepared(path, image)
        own = grouped[image["id"]]
        images.append(
            AnnotatedImage(
                path=pictures / image["file_name"],
                image_id=image["image_id"],
                study_id=image["study_id"],
                boxes=corners([annotation["bbox"] for annotation in own]),
                labels=np.array([ids[annotation["category_id"]] for annotation in own], np.int64),
                size=(image["height"], image["width"]),
                original_size=(image["original_height"], image["original_width"]),
                study_class=image["study_class"],
                findings=tuple(image["labels"]) if "labels" in image else None,
                patient=image["patient"] or None,
                split=split,
                dataset=name,
                coco=image,
            )
        )
    names = tuple(category["name"] for category in content["categories"])
    return PreparedSplit(path, tuple(images), names, tuple(ids))


def read_annotations(path: str | Path, empty: bool = False) -> dict[str, Any]:
    """Read any COCO detection file as it stands, boxes x y width height.

    Args:
        path: the file.
        empty: accept one that lists no image.

    Raises:
        DataError: it is missing, not JSON or not a COCO file; it lists no image, or an entry has a value of another
            kind than everything that reads it takes for granted.
    """
    try:
        content = json_value(Path(path).read_bytes().decode())  # MMDetection takes no byte order mark
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; make it with tools/prepare.py") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"{path}: is not JSON ({error}); prepare the data set again") from error
    missing = {*_PARTS} - set(content if isinstance(content, dict) else ())
    if missing:
        raise DataError(f"{path}: is no COCO file, has no {', '.join(sorted(missing))}")
    for part in _PARTS:
        if not isinstance(content[part], list) or not all(isinstance(one, dict) for one in content[part]):
            raise DataError(f"{path}: is no COCO file, its {part} are no list of objects")
    if not content["images"] and not empty:
        raise DataError(f"{path}: lists no image")
    categories: set[int] = set()
    for category in content["categories"]:
        number = category.get("id")
        if not isinstance(number, int) or number in categories or not isinstance(category.get("name"), str):
            raise DataError(f"{path}: a category has no id or name of its own: {category!r}")
        categories.add(number)
    numbers: set[int] = set()
    for image in content["images"]:
        _require_image(path, image)
        if image["id"] in numbers:
            raise DataError(f"{path}: image {image['id']} is listed twice")
        numbers.add(image["id"])
    for annotation in content["annotations"]:
        _require_annotation(path, annotation, numbers, categories)
    return content


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


def _require_image(path: str | Path, image: Mapping[str, Any]) -> None:
    if not isinstance(image.get("id"), int):
        raise DataError(f"{path}: an image has no number, but the id {image.get('id')!r}")
    name = image.get("file_name")
    if not isinstance(name, str) or not name or "\0" in name:
        raise DataError(f"{path}: image {image['id']}: {name!r} is no file name")
    for side in ("width", "height", "original_width", "original_height"):
        value = image.get(side, 1 if side.startswith("original") else None)
        if not isinstance(value, int) or value < 1:
            raise DataError(f"{path}: image {image['id']}: {side} is {value!r}, not a number of pixels")
    for key in ("image_id", "study_id", "study_class", "rsna_class", "patient"):
        if not isinstance(image.get(key), str | None):
            raise DataError(f"{path}: image {image['id']}: {key} is {image[key]!r}, not a text")
    labels = image.get("labels", [])
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise DataError(f"{path}: image {image['id']}: labels is {labels!r}, not a list of texts")


def _require_annotation(
    path: str | Path, annotation: Mapping[str, Any], images: set[int], categories: set[int]
) -> None:
    number, box, category = (annotation.get(key) for key in ("image_id", "bbox", "category_id"))
    if not isinstance(number, int) or number not in images:
        raise DataError(f"{path}: a box belongs to image {number!r}, which it does not have")
    if not _is_box(box):
        raise DataError(f"{path}: image {number}: {box!r} is no box")
    if min(box[2:]) < 0:
        raise DataError(f"{path}: image {number}: {box!r} has a negative side")
    if not isinstance(category, int) or category not in categories:
        raise DataError(f"{path}: image {number}: a box is of category {category!r}, which the file does not have")


def _is_box(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 4
        # a NaN is below nothing
        and all(isinstance(number, int | float) and abs(number) < _FARTHEST for number in value)
    )


def _require_prepared(path: Path, image: Mapping[str, Any]) -> None:
    for key in _REQUIRED:
        if key not in image or (key in ("image_id", "study_id") and not image[key]):
            raise DataError(f"{path}: image {image['id']} has no {key}; prepare the data set again")
    if image["study_class"] not in (None, *STUDY_CLASSES):
        raise DataError(f"{path}: image {image['id']}: unknown study class '{image['study_class']}'")
