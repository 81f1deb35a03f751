"""Lets three readers draw the findings of phantoms, as the table of VinBigData's VinDr-CXR lists them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from covidmm.phantom.study import Study
from covidmm.prepare.layouts.vindr import FINDINGS, NO_FINDING
from covidmm.utils.csv_tables import csv_bytes

HEADER = ("image_id", "class_name", "class_id", "rad_id", "x_min", "y_min", "x_max", "y_max")
#: The publisher's name of each kind, and what it is taken for now and then.
NAMES = {
    "opacity": ("Lung Opacity", "Infiltration"),
    "consolidation": ("Consolidation", "Lung Opacity"),
    "effusion": ("Pleural effusion", "Pleural thickening"),
    "nodule": ("Nodule/Mass", "Other lesion"),
    "pneumothorax": ("Pneumothorax", "Other lesion"),
    "cardiomegaly": ("Cardiomegaly", "Aortic enlargement"),
}
_POOL = 17  # readers of VinDr-CXR; three of them see an image
_JITTER = 0.03  # deviation of an edge, as a share of the box's side
_MISSED, _MISTAKEN = 0.08, 0.05  # shares of the boxes

Row = tuple[str | int, ...]


def read_image(study: Study, number: int, shape: tuple[int, int], kinds: Mapping[str, NDArray[np.int64]]) -> list[Row]:
    """What three readers say of an image: rows of :data:`HEADER`.

    They agree within a few per cent of a box's sides, miss one now and then, or take it for something else.

    Args:
        study: whose image.
        number: which of its images, from 0.
        shape: its height and width.
        kinds: the true boxes, x1 y1 x2 y2, by kind.
    """
    image = study.images[number]
    rng = np.random.default_rng([study.seed, study.index, 1 + number, 4])
    rows: list[Row] = []
    for reader in sorted((1 + rng.choice(_POOL, 3, replace=False)).tolist()):
        seen = [
            (image, name, FINDINGS.index(name), f"R{reader}", *corners)
            for kind, boxes in kinds.items()
            for name, corners in _drawn(kind, boxes, shape, rng)
        ]
        rows += seen or [(image, NO_FINDING, len(FINDINGS), f"R{reader}", "", "", "", "")]
    return rows


def readings_table(rows: Iterable[Row]) -> bytes:
    """The whole table, by image."""
    return csv_bytes(HEADER, sorted(rows, key=lambda row: (row[0], int(str(row[3])[1:]), row[2])))


def _drawn(
    kind: str, boxes: NDArray[np.int64], shape: tuple[int, int], rng: np.random.Generator
) -> Iterable[tuple[str, tuple[int, ...]]]:
    """The boxes of a kind that one reader draws, with the name that he gives them."""
    height, width = shape
    for box in boxes:
        shift, chance = rng.normal(0, _JITTER, 4), rng.random()
        if chance < _MISSED:
            continue
        sides = np.tile(box[2:] - box[:2], 2)
        placed = np.clip(np.round(box + shift * sides), 0, [width, height, width, height]).astype(int)
        yield NAMES[kind][chance > 1 - _MISTAKEN], tuple(placed.tolist())
