"""Converts one image file of a raw data set to an 8-bit PNG, with a record of how it was made."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

import covidmm
from covidmm import radiograph
from covidmm.errors import RadiographError
from covidmm.prepare import near_duplicates
from covidmm.prepare.markers import mask_markers
from covidmm.radiograph import Header, sandbox
from covidmm.utils.fileio import write_bytes


class Job(NamedTuple):
    """The arguments of :func:`convert`."""

    source: Path
    target: Path
    file_name: str
    max_size: int
    mask_markers: bool


@dataclass(frozen=True)
class Record:
    """A written PNG: from what it was made, and all that later steps need to know of it."""

    file_name: str
    made_from: str
    """:func:`fingerprint` of the source and the options; another one means that the PNG is out of date."""
    png_size: int
    pixels_sha256: str
    width: int
    height: int
    header: Header
    """Of the source, without its path and UIDs."""
    notes: tuple[str, ...]
    thumbnail: str
    """Base64 of the (48, 48) thumbnail that near-duplicates are found with; '' where only the journal holds it."""

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        return {**vars(self), "header": self.header.to_json()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Record:
        """What :meth:`to_json` gave."""
        header = Header.from_json(Path(), content["header"])
        return cls(**{**content, "header": header, "notes": tuple(content["notes"])})

    def pixels(self) -> NDArray[np.uint8]:
        """The thumbnail as an array (48, 48)."""
        side = near_duplicates.SIDE
        return np.frombuffer(base64.b64decode(self.thumbnail), np.uint8).reshape(side, side)


def fingerprint(source: Path, max_size: int, masked: bool) -> str:
    """Size and time of the source file, and everything else that decides its PNG and record.

    Raises:
        OSError: the file is gone.
    """
    status = source.stat()
    options = f"max_size={max_size}" + " mask_markers" * masked + f" thumbnail={near_duplicates.SIDE}"
    return f"{status.st_size} {status.st_mtime_ns} {options} covidmm={covidmm.__version__}"


def convert(job: Job) -> Record:
    """Read one radiograph, shrink it to ``max_size``, mask markers if asked, and write a PNG, whole or not at all.

    Raises:
        RadiographError: the source cannot be read.
        OSError: the PNG cannot be written.
    """
    try:
        made_from = fingerprint(job.source, job.max_size, job.mask_markers)
        image = sandbox.read(job.source)
    except OSError as error:
        raise RadiographError(f"{job.source}: cannot be read: {error.strerror or error}") from error
    pixels = radiograph.resize_longer(image.pixels, job.max_size)
    notes = image.notes
    if job.mask_markers:
        pixels, masked = mask_markers(pixels)
        notes += (f"{masked} marker regions masked",) if masked else ()
    _, encoded = cv2.imencode(".png", pixels)
    png = encoded.tobytes()
    job.target.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(job.target, png)
    return Record(
        file_name=job.file_name,
        made_from=made_from,
        png_size=len(png),
        pixels_sha256=hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest(),
        width=pixels.shape[1],
        height=pixels.shape[0],
        header=replace(image.header, path=Path(), study=None, series=None, image=None),
        notes=notes,
        thumbnail=base64.b64encode(near_duplicates.thumbnail(pixels).tobytes()).decode(),
    )
