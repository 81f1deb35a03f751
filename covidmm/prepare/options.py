"""Options of preparing a data set."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from covidmm.errors import ConfigError
from covidmm.prepare.splits import FOLDS, SPLITS

#: What may become of the boxes that several readers drew on one image.
READERS = ("merge", "all", "consensus")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Options:
    """How to prepare a data set.

    Raises:
        ConfigError: a value is out of range.
    """

    max_size: int = 1024
    """Longer side of the PNGs at most, in pixels; smaller images keep their size."""
    seed: int = 0
    """Draws the splits."""
    val_fold: int = 0
    """The fold (0..4) that validates."""
    test_fraction: float = 0.15
    """Share of the images that is held out for the test."""
    split: str = "auto"
    """``'train'``, ``'val'`` or ``'test'`` puts the whole folder into that one split."""
    mask_markers: bool = False
    """Paint over letters burned into the images; see :mod:`covidmm.prepare.markers`."""
    negatives: bool = False
    """RSNA: keep the images without a lung opacity. NIH with ``boxes``: those without a finding."""
    boxes: bool = False
    """NIH: only the images with boxes, whose classes are the eight findings that have any."""
    patient_from: str | None = None
    """Regular expression for the patient in an image's path below RAW, for layouts whose labels name none."""
    columns: str | None = None
    """Of a table, its columns by what they hold, such as ``image=image_id,x1=x_min``."""
    table: str | None = None
    """Of a table, the file below RAW, where there are several."""
    normalised: bool = False
    """Of a table, whether boxes are shares of the image's width and height."""
    readers: str = "merge"
    """Boxes of several readers: ``'merge'`` fuses them, ``'all'`` keeps each, ``'consensus'`` keeps those of two."""
    workers: int = field(default_factory=_cores)
    """Processes that convert images."""
    scheduler: str | None = None
    """Address of a Dask scheduler whose workers convert them instead."""
    progress: bool | None = None
    """Show a progress bar; None: only on a terminal."""

    def __post_init__(self) -> None:
        limits = {
            "max_size": (self.max_size >= 16, "an integer >= 16"),
            "val_fold": (0 <= self.val_fold < FOLDS, f"0 to {FOLDS - 1}"),
            "test_fraction": (0 <= self.test_fraction < 1, "0 <= fraction < 1"),
            "split": (self.split in ("auto", *SPLITS), f"auto, {', '.join(SPLITS)}"),
            "readers": (self.readers in READERS, ", ".join(READERS)),
            "seed": (self.seed >= 0, "an integer >= 0"),
            "workers": (self.workers >= 1, "an integer >= 1"),
        }
        for name, (valid, expected) in limits.items():
            if not valid:
                raise ConfigError(f"option {name}: expected {expected}, got {getattr(self, name)!r}")
