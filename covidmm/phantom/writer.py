"""Writes synthetic studies as a raw folder of SIIM or of VinDr-CXR: DICOM files and label tables."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from covidmm.errors import DataError
from covidmm.findings import STUDY_CLASSES
from covidmm.phantom.dicom import encode
from covidmm.phantom.study import SHARES, Rendering, Study, plan_study, render
from covidmm.phantom.three_readers import read_image, readings_table
from covidmm.prepare.layouts.siim import IMAGE_CSV, STUDY_COLUMNS, STUDY_CSV
from covidmm.prepare.layouts.vindr import LABEL_CSV
from covidmm.utils.csv_tables import csv_bytes
from covidmm.utils.fileio import write_bytes
from covidmm.utils.pool import run_each

LAYOUTS: dict[str, Mapping[str, float]] = {
    "siim": SHARES,
    # half of the studies are atypical, which is where kinds other than opacities are
    "vindr": dict(zip(STUDY_CLASSES, (0.15, 0.25, 0.10, 0.50), strict=True)),
}
"""What phantoms are written as, and the shares of the study classes in it."""


@dataclass(frozen=True)
class PhantomSummary:
    """What :func:`write_phantoms` wrote.

    Attributes:
        out: the raw folder.
        studies: number of studies.
        images: number of DICOM files.
        boxes: number of true boxes: of opacities, or of all findings where the layout has them.
        classes: studies per class, in the order negative, typical, indeterminate, atypical.
    """

    out: Path
    studies: int
    images: int
    boxes: int
    classes: dict[str, int]

    def __str__(self) -> str:
        shares = ", ".join(f"{count} {name}" for name, count in self.classes.items())
        return (
            f"{self.out}: {self.studies} synthetic studies ({shares}), {self.images} images, "
            f"{self.boxes} boxes. Phantoms test software; they say nothing about patients."
        )


@dataclass(frozen=True)
class _Written:
    study: Study
    # per image
    boxes: tuple[NDArray[np.int64], ...]
    kinds: tuple[Mapping[str, NDArray[np.int64]], ...]


def write_phantoms(
    out: Path | str,
    studies: int,
    seed: int,
    size: tuple[int, int] = (512, 640),
    workers: int | None = None,
    layout: str = "siim",
) -> PhantomSummary:
    """Write synthetic chest radiographs in the raw layout of SIIM-FISABIO-RSNA COVID-19, or of VinDr-CXR.

    Phantoms are drawn for tests and demonstrations. Whatever is measured on them says that the software
    works, and nothing about patients: never report it as a clinical result.

    The same arguments give the same bytes, whatever ``workers`` is; study ``i`` of a seed is the same in
    every set. Each file appears whole or not at all, the tables last.

    Args:
        out: the raw folder to make: ``train/<study>/<series>/<image>.dcm``, ``train_image_level.csv``,
            ``train_study_level.csv``; of VinDr-CXR ``train/<image>.dicom``, ``train.csv``. Writing the same set
            again is allowed.
        studies: how many, at least 1.
        seed: draws them, at least 0.
        size: least and greatest length of an image's longer side, pixels.
        workers: processes; one per core when None.
        layout: one of :data:`LAYOUTS`.

    Raises:
        DataError: an argument is out of range, or ``out`` cannot be made or already holds other studies.
        OSError: a file cannot be written (no space, ...).
    """
    if studies < 1:
        raise DataError(f"studies: at least 1 expected, got {studies}")
    if seed < 0:
        raise DataError(f"seed: 0 or more expected, got {seed}")
    if not 128 <= size[0] <= size[1] <= 4096:
        raise DataError(f"size: two lengths in pixels, 128 <= least <= greatest <= 4096 expected, got {size}")
    if layout not in LAYOUTS:
        raise DataError(f"layout: {' or '.join(LAYOUTS)} expected, got {layout!r}")
    out = Path(out)
    planned = [plan_study(seed, index, size, LAYOUTS[layout]) for index in range(studies)]
    _make(out, {path.relative_to(out).parts[1] for study in planned for path in _paths(out, study, layout)})
    written = _write_all(out, planned, workers or os.cpu_count() or 1, layout)
    if layout == "siim":
        write_bytes(out / IMAGE_CSV, _image_table(written))
        write_bytes(out / STUDY_CSV, _study_table(planned))
        boxes = [boxes for one in written for boxes in one.boxes]
    else:
        write_bytes(out / LABEL_CSV, _readings(written))
        boxes = [boxes for one in written for kinds in one.kinds for boxes in kinds.values()]
    counts = Counter(study.study_class for study in planned)
    return PhantomSummary(
        out=out,
        studies=studies,
        images=sum(len(study.images) for study in planned),
        boxes=sum(map(len, boxes)),
        classes={name: counts[name] for name in STUDY_CLASSES},
    )


def _make(out: Path, ours: set[str]) -> None:
    """Make the folder. A table beside studies that it does not list is a trap, so other studies are refused."""
    train = out / "train"
    try:
        train.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{out}: the folder cannot be made: {error.strerror}") from error
    others = sorted(entry.name for entry in train.iterdir() if entry.name not in ours)
    if others:
        raise DataError(
            f"{train}: holds {len(others)} entries of another set (first: {others[0]}); name an empty folder"
        )


def _write_all(out: Path, planned: list[Study], workers: int, layout: str) -> list[_Written]:
    """Write every study; the result is in the order of the plan."""
    write = partial(_write_study, out, layout)
    if workers == 1:
        return [write(study) for study in planned]
    written: dict[str, _Written] = {}
    for study, outcome in run_each(write, planned, min(workers, len(planned))):
        if isinstance(outcome, Exception):
            raise outcome
        written[study.study] = outcome
    return [written[study.study] for study in planned]


def _paths(out: Path, study: Study, layout: str) -> list[Path]:
    """Where the images of a study lie."""
    if layout == "vindr":
        return [out / "train" / f"{image}.dicom" for image in study.images]
    return [
        out / "train" / study.study / series / f"{image}.dcm"
        for series, image in zip(study.series, study.images, strict=True)
    ]


def _write_study(out: Path, layout: str, study: Study) -> _Written:
    taken: list[Rendering] = []
    for number, path in enumerate(_paths(out, study, layout)):
        rendering = render(study, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, encode(study, number, rendering.grey))
        taken.append(rendering)
    return _Written(study, tuple(one.boxes for one in taken), tuple(one.kinds for one in taken))


def _readings(written: list[_Written]) -> bytes:
    return readings_table(
        row
        for one in written
        for number, kinds in enumerate(one.kinds)
        for row in read_image(one.study, number, one.study.shape, kinds)
    )


def _image_table(written: list[_Written]) -> bytes:
    rows = []
    for one in written:
        for image, boxes in zip(one.study.images, one.boxes, strict=True):
            corners = [tuple(map(float, box)) for box in boxes]
            listed = [{"x": a, "y": b, "width": c - a, "height": d - b} for a, b, c, d in corners]
            label = " ".join(f"opacity 1 {a:g} {b:g} {c:g} {d:g}" for a, b, c, d in corners)
            row = (
                f"{image}_image",
                str(listed) if listed else "",
                label or "none 1 0 0 1 1",
                one.study.study,
            )
            rows.append(row)
    return csv_bytes(("id", "boxes", "label", "StudyInstanceUID"), sorted(rows))


def _study_table(planned: list[Study]) -> bytes:
    rows = [(f"{study.study}_study", *(int(study.study_class == name) for name in STUDY_CLASSES)) for study in planned]
    return csv_bytes(("id", *STUDY_COLUMNS), sorted(rows))
