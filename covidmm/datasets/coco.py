"""Turns labels and written PNGs into the COCO files that training reads."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from covidmm.datasets.conversion import Record
from covidmm.datasets.samples import Box, Issue, Sample, clip_box
from covidmm.spreadsheet import csv_bytes


@dataclass
class Image:
    """A written image with its boxes in pixels of the original, inside it."""

    sample: Sample
    record: Record
    boxes: list[Box]
    patient: str | None
    fold: int = 0


@dataclass
class Checked:
    """The images whose labels fit their pixels, what was dropped, and what was changed."""

    images: list[Image] = field(default_factory=list)
    skipped: list[Issue] = field(default_factory=list)
    notes: list[Issue] = field(default_factory=list)


def check_boxes(pairs: Iterable[tuple[Sample, Record]]) -> Checked:
    """Cut boxes to their image and drop those that are wholly outside or too thin to be seen.

    An image that loses its last box is skipped: it must not pass as one without opacities.
    """
    checked = Checked()
    for sample, record in pairs:
        for note in record.notes:
            checked.notes.append(Issue(sample.file_name, "pixels", note))
        kept: list[Box] = []
        for index, box in enumerate(sample.boxes):
            where = f"boxes[{index}] of {sample.image_id}"
            clipped = clip_box(box, record.original_width, record.original_height)
            size = f"{record.original_width} x {record.original_height} image"
            if box[2] <= 0 or box[3] <= 0:
                checked.skipped.append(Issue(sample.label_file, where, f"zero area: {_show(box)}"))
            elif clipped is None:
                cause = f"outside the {size}: {_show(box)}"
                checked.skipped.append(Issue(sample.label_file, where, cause))
            elif min(scaled := _written(clipped, record)[2:]) < 1:
                cause = f"thinner than a pixel of the PNG: {scaled[0]} x {scaled[1]}"
                checked.skipped.append(Issue(sample.label_file, where, cause))
            else:
                kept.append(clipped)
                if max(abs(a - b) for a, b in zip(box, clipped, strict=True)) > 0.5:
                    note = f"cut to the {size}: {_show(box)} became {_show(clipped)}"
                    checked.notes.append(Issue(sample.label_file, where, note))
        if sample.boxes and not kept:
            checked.skipped.append(Issue(sample.file_name, "boxes", "none of its boxes can be used"))
        else:
            checked.images.append(Image(sample, record, kept, sample.patient or record.patient))
    return checked


def document(
    images: Sequence[Image], ids: Mapping[str, int], categories: Sequence[str], info: Mapping[str, Any]
) -> dict[str, Any]:
    """The COCO detection file of one split. Contains no date: the same input gives the same bytes.

    Args:
        images: of this split.
        ids: image id of the data set -> integer id, unique over all splits.
        categories: names of the categories 1, 2, ...
        info: goes into ``info``.
    """
    annotations: list[dict[str, Any]] = []
    for image in images:
        for index, box in enumerate(image.boxes):
            x, y, width, height = _written(box, image.record)
            annotations.append(
                {
                    # Unique over all splits as well: no image has a thousand boxes.
                    "id": ids[image.sample.image_id] * 1000 + index,
                    "image_id": ids[image.sample.image_id],
                    "category_id": 1,
                    "bbox": [x, y, width, height],
                    "area": round(width * height, 2),
                    "iscrowd": 0,
                }
            )
    return {
        "info": dict(info),
        "images": [_image(image, ids[image.sample.image_id]) for image in images],
        "annotations": annotations,
        "categories": [{"id": index, "name": name} for index, name in enumerate(categories, start=1)],
    }


def data_sha256(images: Iterable[Image], documents: Mapping[str, bytes]) -> str:
    """One digest of a prepared data set: its pixels (not their PNG encoding) and its annotation files."""
    digest = hashlib.sha256()
    for image in images:
        digest.update(f"{image.sample.file_name} {image.record.pixels_sha256}\n".encode())
    for split in sorted(documents):
        digest.update(f"{split} {hashlib.sha256(documents[split]).hexdigest()}\n".encode())
    return digest.hexdigest()


def table(issues: Iterable[Issue], last_column: str) -> bytes:
    """Issues as CSV with the columns ``file``, ``field`` and ``last_column``."""
    return csv_bytes(("file", "field", last_column), sorted(issues))


def _image(image: Image, number: int) -> dict[str, Any]:
    record, sample = image.record, image.sample
    return {
        "id": number,
        "file_name": sample.file_name,
        "width": record.width,
        "height": record.height,
        "original_width": record.original_width,
        "original_height": record.original_height,
        "image_id": sample.image_id,
        "study_id": sample.study_id,
        "study_class": sample.study_class,
        "fold": image.fold,
        "patient": image.patient,
        "photometric": record.photometric,
        "view": record.view,
        "sex": record.sex,
        "age": record.age,
        "modality": record.modality,
        "manufacturer": record.manufacturer,
        "body_part": record.body_part,
        "bits_stored": record.bits_stored,
        "transfer_syntax": record.transfer_syntax,
        **sample.extra,
    }


def _written(box: Box, record: Record) -> tuple[float, float, float, float]:
    """A box of the original image in pixels of the written one."""
    across, down = record.width / record.original_width, record.height / record.original_height
    x, y, width, height = box
    return round(x * across, 3), round(y * down, 3), round(width * across, 3), round(height * down, 3)


def _show(box: Box) -> str:
    return "x {:g} y {:g} width {:g} height {:g}".format(*box)
