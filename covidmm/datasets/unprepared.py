"""Folders for those that only look at data, audit and report: prepared, or of COCO files that nobody prepared."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np

from covidmm.datasets.annotated_image import AnnotatedImage
from covidmm.datasets.prepared_folder import MANIFEST, PreparedFolder, PreparedSplit, Reading, read_prepared
from covidmm.errors import DataError, RadiographError
from covidmm.findings import STUDY_CLASSES
from covidmm.prepare.coco_files import Image, check_boxes, image_entry
from covidmm.prepare.layouts.coco import read_folder
from covidmm.prepare.options import Options
from covidmm.prepare.pixels import Record
from covidmm.prepare.samples import Issue, Sample
from covidmm.prepare.splits import SPLITS
from covidmm.radiograph import read_header
from covidmm.utils.boxes import corners

UNDIVIDED = "all"
"""Stands for the split of a folder whose files are not named after any."""


def read_data_folder(folder: Path, name: str | None = None) -> PreparedFolder:
    """Read a folder of ``tools/prepare.py``, or one of COCO files as its layout ``coco`` reads them.

    Of the latter the images stay as they are, where they are: in the splits that their files are named after, also
    where these share a picture or a patient, and not in one that nobody made. No pixel is decoded and nothing is
    written.

    Args:
        folder: the folder.
        name: what to call it; None: as the folder is called.

    Raises:
        DataError: it is neither, or holds no usable image.
    """
    try:
        return read_prepared(folder, name)
    except DataError as error:
        if (folder / MANIFEST).is_file():
            raise
        try:
            return _read(folder, name or folder.resolve().name)
        except DataError as other:
            raise DataError(f"{error}; nor is it a COCO data set: {other}") from error


def _read(folder: Path, name: str) -> PreparedFolder:
    raw = folder.resolve()
    labels = read_folder(raw, Options())
    reading = Reading(list(labels.skipped), list(labels.notes))
    images: dict[str, list[AnnotatedImage]] = defaultdict(list)
    for number, sample in enumerate(labels.samples.values(), start=1):
        if image := _image(number, sample, raw, reading):
            split = {None: UNDIVIDED, "train_val": "train"}.get(sample.official, sample.official)
            images[split].append(_annotated(image, split, name, labels.categories))
    if not images:
        cause = ", the first: {}: {}: {}".format(*reading.skipped[0]) if reading.skipped else ""
        raise DataError(f"{folder}: no image of it can be used{cause}")
    splits = {
        split: PreparedSplit(
            raw / "annotations" / f"{split}.json",
            tuple(images[split]),
            labels.categories,
            tuple(range(1, len(labels.categories) + 1)),
        )
        for split in (*SPLITS, UNDIVIDED)
        if split in images
    }
    return PreparedFolder(name, folder, {}, splits, reading)


def _image(number: int, sample: Sample, raw: Path, reading: Reading) -> Image | None:
    """An image with its boxes cut to it; None, and listed, where it cannot be used."""
    file = sample.source.relative_to(raw).as_posix()
    try:
        header = read_header(sample.source)
    except RadiographError as error:
        reading.skipped.append(Issue(file, "pixels", str(error).removeprefix(f"{sample.source}: ")))
        return None
    record = Record(file, "", 0, "", header.width, header.height, header, (), "")
    boxes = check_boxes(sample, record, reading.skipped, reading.changed)
    return None if boxes is None else Image(number, replace(sample, file_name=file, boxes=boxes), record, 0)


def _annotated(image: Image, split: str, name: str, categories: tuple[str, ...]) -> AnnotatedImage:
    sample, size = image.sample, (image.record.height, image.record.width)
    entry = image_entry(image)
    for key in ("age", "bits_stored"):  # people's own entries may say anything
        if not isinstance(entry[key], int | float | None):
            entry[key] = getattr(image.record.header, key)
    own, crowds = ([box for box in sample.boxes if box.crowd == crowd] for crowd in (False, True))
    findings = entry.get("labels")
    listed = isinstance(findings, list) and all(isinstance(one, str) for one in findings)
    return AnnotatedImage(
        path=sample.source,
        image_id=sample.image_id,
        study_id=sample.study_id,
        boxes=corners([box.box for box in own]),
        labels=np.array([box.label for box in own], np.int64),
        crowds=corners([box.box for box in crowds]),
        crowd_labels=np.array([box.label for box in crowds], np.int64),
        size=size,
        original_size=size,
        study_class=entry["study_class"] if entry["study_class"] in STUDY_CLASSES else None,
        findings=tuple(findings) if listed else None,
        patient=entry["patient"] or None,
        split=split,
        dataset=name,
        categories=categories,
        coco=entry,
    )
