"""What is known to be on an image of a prepared folder, whatever says it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from covidmm.datasets.annotated_image import AnnotatedImage
from covidmm.datasets.prepared_folder import PreparedSplit, read_split
from covidmm.prepare.splits import SPLITS


def image_labels(image: AnnotatedImage) -> tuple[str, ...]:
    """What is known to be on an image: its labels, the class of its study, and the classes of its boxes and crowds."""
    boxed = {*image.labels.tolist(), *image.crowd_labels.tolist()}
    names = [name for label, name in enumerate(image.categories) if label in boxed]
    study = [image.study_class] if image.study_class else []
    return tuple(dict.fromkeys([*names, *study, *(image.findings or ())]))


def label_names(split: PreparedSplit) -> tuple[str, ...]:
    """Every label of a split's folder: its categories, and then those that images of any split have, by the alphabet.

    Raises:
        DataError: the annotation file of another split is damaged.
    """
    files = {split.path, *(split.path.with_name(f"{name}.json") for name in SPLITS)}
    found = {name for path in files if path.is_file() for name in _labels_in(path, path.stat().st_mtime_ns)}
    return (*split.categories, *sorted(found - set(split.categories)))


@lru_cache(maxsize=16)
def _labels_in(path: Path, _changed: int) -> frozenset[str]:
    """The labels of the images in an annotation file; read once, as long as it stays the same."""
    return frozenset(name for image in read_split(path, empty=True).images for name in image_labels(image))
