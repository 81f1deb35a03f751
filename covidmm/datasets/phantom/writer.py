"""Writes phantom studies as the SIIM competition hands out real ones."""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from covidmm.atomic import write_bytes
from covidmm.datasets.phantom.anatomy import draw_thorax
from covidmm.datasets.phantom.dicom import Acquisition, encode
from covidmm.datasets.phantom.opacities import place_opacities
from covidmm.datasets.phantom.picture import expose, leave_marks
from covidmm.errors import DataError

CLASSES = ("negative", "typical", "indeterminate", "atypical")
STUDY_COLUMNS = (
    "Negative for Pneumonia", "Typical Appearance", "Indeterminate Appearance", "Atypical Appearance",
)  # fmt: skip

#: SIIM's own proportions: 1676, 2855, 1049 and 474 of 6054 studies.
PROPORTIONS = (1676 / 6054, 2855 / 6054, 1049 / 6054, 474 / 6054)

#: Share of studies with a second image, as in SIIM (6334 images of 6054 studies).
SECOND_IMAGE = 0.046

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class PhantomSummary:
    """What was written."""

    out: Path
    images: int
    boxes: int
    studies: dict[str, int]

    def __str__(self) -> str:
        classes = ", ".join(f"{count} {name}" for name, count in self.studies.items())
        total = sum(self.studies.values())
        return f"{self.out}: {total} phantom studies ({classes}), {self.images} images, {self.boxes} boxes"


@dataclass(frozen=True)
class _Image:
    study: str
    series: str
    image: str
    study_class: str
    boxes: tuple[Box, ...]


def write_phantoms(
    out: str | Path, studies: int, seed: int, longer_side: int = 576, workers: int | None = None
) -> PhantomSummary:
    """Write synthetic studies in the raw SIIM layout.

    The same seed gives the same bytes, whatever the number of workers; study k does not depend on how many
    follow it. Label files come last, so a folder that has them is complete.

    Args:
        out: folder to make.
        studies: how many; from 8 on, every class occurs.
        seed: draws everything.
        longer_side: of the pictures, in pixels.
        workers: processes; one per core by default.

    Raises:
        DataError: ``studies`` is below 1.
    """
    if studies < 1:
        raise DataError(f"--studies {studies}: at least one study is needed")
    out = Path(out)
    job = partial(_write_study, out, seed, longer_side)
    if workers == 1:
        images = [image for index in range(studies) for image in job(index)]
    else:
        with ProcessPoolExecutor(workers) as pool:
            images = [image for found in pool.map(job, range(studies), chunksize=4) for image in found]
    _write_labels(out, images)
    classes = Counter({image.study: image.study_class for image in images}.values())
    return PhantomSummary(
        out, len(images), sum(len(i.boxes) for i in images), {name: classes[name] for name in CLASSES}
    )


def study_class(seed: int, index: int) -> str:
    """The class of study ``index``: drawn by SIIM's proportions, the first eight twice each."""
    if index < 8:
        return CLASSES[index % 4]
    return str(np.random.default_rng([seed, index, 1]).choice(CLASSES, p=PROPORTIONS))


def _write_study(out: Path, seed: int, longer_side: int, index: int) -> list[_Image]:
    rng = np.random.default_rng([seed, index])
    chosen = study_class(seed, index)
    study, patient = _identifier(seed, index, "study"), _identifier(seed, index, "patient")
    female = bool(rng.random() < 0.45)
    age = int(rng.integers(18, 91))
    images = []
    for number in range(2 if rng.random() < SECOND_IMAGE else 1):
        height, width = _shape(longer_side, rng)
        thorax = draw_thorax(height, width, rng, female)
        opacities = place_opacities(chosen, thorax, rng)
        thickness = thorax.thickness + sum(opacity.added for opacity in opacities)
        grey = leave_marks(expose(thickness, rng), rng)
        series, image = (_identifier(seed, index, f"{kind} {number}") for kind in ("series", "image"))
        acquisition = Acquisition(study, series, image, patient, "F" if female else "M", age)
        folder = out / "train" / study / series
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(folder / f"{image}.dcm", encode(grey, acquisition, rng))
        images.append(_Image(study, series, image, chosen, tuple(opacity.box for opacity in opacities)))
    return images


def _shape(longer_side: int, rng: np.random.Generator) -> tuple[int, int]:
    """Portrait mostly, sometimes square or landscape."""
    aspect = float(rng.choice([0.82, 0.86, 0.92, 1.0, 1.12], p=[0.3, 0.3, 0.2, 0.12, 0.08]))
    if aspect <= 1:
        return longer_side, round(longer_side * aspect)
    return round(longer_side / aspect), longer_side


def _identifier(seed: int, index: int, what: str) -> str:
    return hashlib.sha256(f"covidmm phantom {seed} {index} {what}".encode()).hexdigest()[:12]


def _write_labels(out: Path, images: list[_Image]) -> None:
    image_rows = [("id", "boxes", "label", "StudyInstanceUID")]
    for image in sorted(images, key=lambda i: i.image):
        boxes = [{"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1} for x1, y1, x2, y2 in image.boxes]
        label = " ".join(f"opacity 1 {x1} {y1} {x2} {y2}" for x1, y1, x2, y2 in image.boxes)
        image_rows.append((f"{image.image}_image", str(boxes) if boxes else "", label or "none 1 0 0 1 1", image.study))
    study_rows = [("id", *STUDY_COLUMNS)]
    for study, chosen in sorted({image.study: image.study_class for image in images}.items()):
        study_rows.append((f"{study}_study", *(str(int(chosen == name)) for name in CLASSES)))
    write_bytes(out / "train_image_level.csv", _csv(image_rows))
    write_bytes(out / "train_study_level.csv", _csv(study_rows))


def _csv(rows: list[tuple[str, ...]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
