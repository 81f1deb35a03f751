"""Writes the COCO files that training reads, from labels and records of PNGs, and the tables of issues."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from covidmm.prepare.pixels import Record
from covidmm.prepare.samples import Box, Issue, LabelledBox, Sample, clip_box
from covidmm.radiograph import PREPARED_FIELDS
from covidmm.utils.csv_tables import csv_lines
from covidmm.utils.fileio import json_bytes, whole_file


class Image(NamedTuple):
    """A written image; the boxes of its sample are in pixels of the original, inside it."""

    number: int
    """Its integer id, unique over all splits."""
    sample: Sample
    record: Record
    fold: int


def check_boxes(
    sample: Sample, record: Record, skipped: list[Issue], notes: list[Issue]
) -> tuple[LabelledBox, ...] | None:
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
    size = record.header.height, record.header.width
    if sample.size not in (None, size):
        labelled, real = ("{1} x {0}".format(*one) for one in (sample.size, size))
        skipped.append(Issue(sample.label_file, f"size of {sample.image_id}", f"says {labelled}, the image is {real}"))
        return None
    kept: list[LabelledBox] = []
    for index, drawn in enumerate(sample.boxes):
        box = _pixels(drawn, record)
        where = f"boxes[{index}] of {sample.image_id}"
        clipped = clip_box(box, record.header.width, record.header.height)
        size = f"{record.header.width} x {record.header.height} image"
        if box[2] <= 0 or box[3] <= 0:
            skipped.append(Issue(sample.label_file, where, f"zero area: {_show(box)}"))
        elif clipped is None:
            skipped.append(Issue(sample.label_file, where, f"outside the {size}: {_show(box)}"))
        elif min(scaled := _written(clipped, record)[2:]) < 1:
            cause = f"thinner than a pixel of the PNG: {scaled[0]} x {scaled[1]}"
            skipped.append(Issue(sample.label_file, where, cause))
        else:
            kept.append(drawn._replace(box=clipped, shares=False))
            if max(abs(a - b) for a, b in zip(box, clipped, strict=True)) > 0.5:
                note = f"cut to the {size}: {_show(box)} became {_show(clipped)}"
                notes.append(Issue(sample.label_file, where, note))
    if sample.boxes and not kept:
        skipped.append(Issue(sample.file_name, "boxes", "none of its boxes can be used"))
        return None
    return tuple(kept)


def document(images: Sequence[Image], categories: Sequence[str], info: Mapping[str, Any]) -> bytes:
    """The COCO detection file of one split. It contains no date: the same input gives the same bytes.

    Args:
        images: of the split.
        categories: names of the categories 1, 2, ...
        info: goes into ``info``.
    """
    return json_bytes(
        {
            "info": info,
            "images": [image_entry(image) for image in images],
            "annotations": [annotation for image in images for annotation in _annotations(image)],
            "categories": [
                {"id": number, "name": name, "supercategory": ""} for number, name in enumerate(categories, start=1)
            ],
        }
    )


def write_table(path: Path, issues: Iterable[Issue], last_column: str) -> None:
    """Write issues, sorted, as CSV with the columns ``file``, ``field`` and ``last_column``.

    Raises:
        OSError: it cannot be written.
    """
    with whole_file(path, keep_equal=True) as file:
        file.writelines(csv_lines(("file", "field", last_column), sorted(issues)))


def image_entry(image: Image) -> dict[str, Any]:
    """The object of an image in a COCO file."""
    record, sample = image.record, image.sample
    return {
        "id": image.number,
        "file_name": sample.file_name,
        "width": record.width,
        "height": record.height,
        "original_width": record.header.width,
        "original_height": record.header.height,
        "image_id": sample.image_id,
        "study_id": sample.study_id,
        "study_class": sample.study_class,
        "fold": image.fold,
        "patient": sample.patient or record.header.patient,
        **{name: getattr(record.header, name) for name in PREPARED_FIELDS},
        **sample.extra,
    }


def _annotations(image: Image) -> Iterator[dict[str, Any]]:
    for index, drawn in enumerate(image.sample.boxes):
        x, y, width, height = _written(drawn.box, image.record)
        yield {
            # Unique over all splits as well: no image has a thousand boxes.
            "id": image.number * 1000 + index,
            "image_id": image.number,
            "category_id": drawn.label + 1,
            "bbox": [x, y, width, height],
            "area": round(width * height, 2),
            "iscrowd": int(drawn.crowd),
            **drawn.extra,
        }


def _pixels(drawn: LabelledBox, record: Record) -> Box:
    """A box as drawn, in pixels of the original image."""
    if not drawn.shares:
        return drawn.box
    x, y, width, height = drawn.box
    across, down = record.header.width, record.header.height
    return x * across, y * down, width * across, height * down


def _written(box: Box, record: Record) -> tuple[float, float, float, float]:
    """A box of the original image in pixels of the written one."""
    across, down = record.width / record.header.width, record.height / record.header.height
    x, y, width, height = box
    return round(x * across, 3), round(y * down, 3), round(width * across, 3), round(height * down, 3)


def _show(box: Box) -> str:
    return "x {:g} y {:g} width {:g} height {:g}".format(*box)
