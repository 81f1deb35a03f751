"""Turns labels and written PNGs into the COCO files that training reads."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from covidmm.prepare.pixels import Record
from covidmm.prepare.samples import Box, Issue, IssueSink, Sample, clip_box
from covidmm.utils.csv_tables import csv_lines
from covidmm.utils.fileio import json_bytes, naming, whole_file

_PART = 1 << 20


@dataclass(frozen=True)
class Image:
    """A written image; the boxes of its sample are in pixels of the original, inside it."""

    sample: Sample
    record: Record
    fold: int


def check_boxes(sample: Sample, record: Record, skipped: IssueSink, notes: IssueSink) -> tuple[Box, ...] | None:
    """Cut boxes to their image and drop those that are wholly outside or too thin to be seen.

    Args:
        sample: the labels.
        record: of the written image.
        skipped: gets what was dropped.
        notes: gets what was changed, and what the reader said.

    Returns:
        The boxes; None where the image lost its last one: it must not pass as one without opacities.
    """
    for note in record.notes:
        notes.append(Issue(sample.file_name, "pixels", note))
    kept: list[Box] = []
    for index, box in enumerate(sample.boxes):
        where = f"boxes[{index}] of {sample.image_id}"
        clipped = clip_box(box, record.original_width, record.original_height)
        size = f"{record.original_width} x {record.original_height} image"
        if box[2] <= 0 or box[3] <= 0:
            skipped.append(Issue(sample.label_file, where, f"zero area: {_show(box)}"))
        elif clipped is None:
            skipped.append(Issue(sample.label_file, where, f"outside the {size}: {_show(box)}"))
        elif min(scaled := _written(clipped, record)[2:]) < 1:
            cause = f"thinner than a pixel of the PNG: {scaled[0]} x {scaled[1]}"
            skipped.append(Issue(sample.label_file, where, cause))
        else:
            kept.append(clipped)
            if max(abs(a - b) for a, b in zip(box, clipped, strict=True)) > 0.5:
                note = f"cut to the {size}: {_show(box)} became {_show(clipped)}"
                notes.append(Issue(sample.label_file, where, note))
    if sample.boxes and not kept:
        skipped.append(Issue(sample.file_name, "boxes", "none of its boxes can be used"))
        return None
    return tuple(kept)


class Document:
    """The COCO detection file of one split, written image by image.

    Contains no date: the same input gives the same bytes, those of ``json_bytes`` of the whole.

    Args:
        file: where to.
        annotations: an empty file to write and read, where they wait for the last image.
        categories: names of the categories 1, 2, ...
        info: goes into ``info``.
    """

    def __init__(
        self, file: BinaryIO, annotations: BinaryIO, categories: Sequence[str], info: Mapping[str, Any]
    ) -> None:
        self._file = file
        self._annotations = annotations
        self._categories = [{"id": index, "name": name} for index, name in enumerate(categories, start=1)]
        self._digest = hashlib.sha256()
        self._comma = self._box_comma = b""
        self._write(b'{"info":' + _json(dict(info)) + b',"images":[')

    def add(self, image: Image, number: int) -> None:
        """Add an image with its boxes.

        Args:
            image: of this split.
            number: its integer id, unique over all splits.
        """
        self._write(self._comma + _json(_image(image, number)))
        self._comma = b","
        for index, box in enumerate(image.sample.boxes):
            x, y, width, height = _written(box, image.record)
            annotation = {
                # Unique over all splits as well: no image has a thousand boxes.
                "id": number * 1000 + index,
                "image_id": number,
                "category_id": 1,
                "bbox": [x, y, width, height],
                "area": round(width * height, 2),
                "iscrowd": 0,
            }
            with naming(Path(self._annotations.name)):
                self._annotations.write(self._box_comma + _json(annotation))
            self._box_comma = b","

    def end(self) -> str:
        """Write the rest; returns the SHA-256 of the whole."""
        self._write(b'],"annotations":[')
        with naming(Path(self._annotations.name)):
            self._annotations.seek(0)
        while part := self._annotations.read(_PART):
            self._write(part)
        self._write(b'],"categories":' + _json(self._categories) + b"}\n")
        self._file.flush()
        return self._digest.hexdigest()

    def _write(self, data: bytes) -> None:
        self._digest.update(data)
        self._file.write(data)


def write_table(path: Path, issues: Iterable[Issue], last_column: str) -> None:
    """Write sorted issues as CSV with the columns ``file``, ``field`` and ``last_column``.

    Raises:
        OSError: it cannot be written.
    """
    with whole_file(path, keep_equal=True) as file:
        file.writelines(csv_lines(("file", "field", last_column), issues))


def _json(value: Any) -> bytes:
    return json_bytes(value)[:-1]  # without the end of the line


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
        "patient": sample.patient or record.patient,
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
