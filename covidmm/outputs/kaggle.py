"""Kaggle's submission file of the SIIM-FISABIO-RSNA challenge: ``id,PredictionString``, a row per study and image.

A study's row holds its four classes, an image's row its opacities and ``none``; see docs/submissions.md.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from covidmm.datasets.image_folders import SAFE_ID
from covidmm.errors import ConfigError, DataError
from covidmm.findings import STUDY_CLASSES, Detections, StudyLabels
from covidmm.prepare.label_files import read_rows
from covidmm.utils.fileio import write_bytes

COLUMNS = ("id", "PredictionString")
STUDY_SUFFIX, IMAGE_SUFFIX = "_study", "_image"
OPACITY, NONE = "opacity", "none"
IMAGE_CLASSES = (NONE, OPACITY)
#: The box of what has no place on the image.
UNIT_BOX = (0.0, 0.0, 1.0, 1.0)
NONE_RULES = ("no_box", "negative", "blend")

_LARGEST = float(np.finfo(np.float32).max)
# Six decimals keep the order of all but the closest scores; a hundredth of a pixel is finer than any label.
_SCORE_DECIMALS, _PIXEL_DECIMALS = 6, 2


class Prediction(NamedTuple):
    """One entry of a row: a class, its confidence and its box."""

    name: str
    score: float
    box: tuple[float, float, float, float]


Submission = Mapping[str, Sequence[Prediction]]
"""Rows by id, the ids with their suffix."""


@dataclass(frozen=True)
class NoneRule:
    """The confidence of an image's ``none``.

    ``no_box`` is prod(1 - score) over the boxes; ``negative`` the study's probability that nothing is there, of the
    class that the classifier names for it; ``blend`` their mean, in which ``no_box`` has the given weight.

    Raises:
        ConfigError: an unknown rule, or a weight outside 0..1.
    """

    rule: str = "no_box"
    weight: float = 0.5

    def __post_init__(self) -> None:
        if self.rule not in NONE_RULES:
            raise ConfigError(f"none: rule is '{self.rule}', it can be {', '.join(NONE_RULES)}")
        if not 0 <= self.weight <= 1:
            raise ConfigError(f"none: weight must lie in 0..1, not {self.weight}")

    def require_classifier(self, labels: StudyLabels | None) -> None:
        """Refuse a rule that needs a study classifier, and its probability that nothing is there, where there is none.

        Args:
            labels: of the classifier; None where there is none.

        Raises:
            ConfigError: names the rule that needs none.
        """
        if self.rule == "no_box" or (labels is not None and labels.negative is not None):
            return
        lacking = "" if labels is None else f" with a class for nothing there, not of {', '.join(labels.names)}"
        raise ConfigError(
            f"none: the rule '{self.rule}' needs a study classifier{lacking}; use none = dict(rule='no_box')"
        )

    def confidence(self, scores: NDArray[np.float32], negative: float | None) -> float:
        """Confidence of ``none``, 0..1.

        Args:
            scores: (N,) of the image's opacities.
            negative: the study's probability that nothing is there, None where no classifier was asked for it.

        Raises:
            ConfigError: the rule needs a study classifier and there is none.
        """
        no_box = float(np.prod(1 - np.asarray(scores, np.float64)))
        if self.rule == "no_box":
            return no_box
        if negative is None:
            self.require_classifier(None)
        return negative if self.rule == "negative" else self.weight * no_box + (1 - self.weight) * negative


@dataclass(frozen=True)
class Rerank:
    """Opacity scores lowered where the image is likely to have none: score^a (1 - none)^b.

    Raises:
        ConfigError: a negative exponent.
    """

    score: float = 1.0
    none: float = 0.0

    def __post_init__(self) -> None:
        if min(self.score, self.none) < 0:
            raise ConfigError(f"rerank: exponents must not be negative: {self.score}, {self.none}")

    def __call__(self, scores: NDArray[np.float32], none: float) -> NDArray[np.float64]:
        """(N,) scores of one image."""
        return np.asarray(scores, np.float64) ** self.score * (1 - none) ** self.none


def study_row(probabilities: Sequence[float] | None) -> list[Prediction]:
    """The row of a study; negative where it was not classified or none of its images can be read."""
    values = (1.0, 0.0, 0.0, 0.0) if probabilities is None else probabilities
    pairs = zip(STUDY_CLASSES, values, strict=True)
    return [Prediction(name, float(value), UNIT_BOX) for name, value in pairs if probabilities is not None or value]


def image_row(found: Detections | None, none: float = 1.0, classes: Sequence[str] = (OPACITY,)) -> list[Prediction]:
    """The row of an image, boxes before ``none``; without detections, for an unreadable one, ``none`` alone.

    A box that has no area in the hundredths of a pixel that are written is left out: it overlaps nothing. Names of
    ``classes`` have underscores for spaces, which part the entries of a row.
    """
    row = [Prediction(NONE, none, UNIT_BOX)]
    if found is None:
        return row
    boxes = [
        Prediction("_".join(classes[label].split()), float(score), tuple(box))
        for box, score, label in zip(found.boxes.tolist(), found.scores, found.labels, strict=True)
        if _has_area(_rounded(box))
    ]
    return [*boxes, *row]


def ranked_row(
    found: Detections, negative: float | None, none: NoneRule, rerank: Rerank, classes: Sequence[str] = (OPACITY,)
) -> list[Prediction]:
    """The row of a readable image by a config's rules.

    Args:
        found: its boxes.
        negative: as in :meth:`NoneRule.confidence`.
        none: how sure its ``none`` is.
        rerank: what becomes of the scores then.
        classes: what the labels stand for.

    Raises:
        ConfigError: the rule needs a study classifier and there is none.
    """
    confidence = none.confidence(found.scores, negative)
    return image_row(Detections(found.boxes, rerank(found.scores, confidence), found.labels), confidence, classes)


def prediction_string(row: Iterable[Prediction]) -> str:
    """The cell of a row.

    Raises:
        ValueError: a confidence outside 0..1; a box that has no area in the hundredths of a pixel that are written.
    """
    return " ".join(map(_spelt, row))


def write_submission(path: str | Path, studies: Submission, images: Submission) -> None:
    """Write the file, whole or not at all: studies first, each in the order given.

    Args:
        path: the CSV file.
        studies: rows by study id, without suffix.
        images: rows by image id, without suffix.

    Raises:
        DataError: an id that is no plain name; a confidence outside 0..1; a box that has no area in the hundredths of a
            pixel that are written. What :func:`read_submission` would refuse is not written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for rows, suffix in ((studies, STUDY_SUFFIX), (images, IMAGE_SUFFIX)):
        for identifier, row in rows.items():
            if not SAFE_ID.fullmatch(identifier):
                raise DataError(f"{path}: '{identifier}' cannot be an id, it must be letters, digits and . _ -")
            try:
                writer.writerow((identifier + suffix, prediction_string(row)))
            except ValueError as error:
                raise DataError(f"{path}: '{identifier}{suffix}': {error}") from None
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_bytes(Path(path), text.getvalue().encode())


def read_submission(path: str | Path) -> Submission:
    """Read a submission; a byte order mark, CRLF and quoted cells are read as what they are.

    Raises:
        DataError: the file is missing or not CSV, lacks a column, or has a row that is no list of predictions: too many
            or too few cells, an empty one, a class that is unknown or given twice, a confidence outside 0..1, a number
            that is none, a box without an area, another than the unit box where no opacity is. With line and cause.
    """
    rows: dict[str, Sequence[Prediction]] = {}
    for line, row in read_rows(Path(path), COLUMNS, whole=True):
        identifier = row["id"]
        where = f"{path}: line {line}, id '{identifier}'"
        if identifier in rows:
            raise DataError(f"{where}: occurs twice")
        if identifier.endswith(STUDY_SUFFIX):
            known: tuple[str, ...] = STUDY_CLASSES
        elif identifier.endswith(IMAGE_SUFFIX):
            known = IMAGE_CLASSES
        else:
            raise DataError(f"{where}: ends neither in {STUDY_SUFFIX} nor in {IMAGE_SUFFIX}")
        if not SAFE_ID.fullmatch(identifier.rpartition("_")[0]):
            raise DataError(f"{where}: cannot be an id, it must be letters, digits and . _ -")
        try:
            rows[identifier] = _parsed(row["PredictionString"], known)
        except ValueError as error:
            raise DataError(f"{where}: {error}") from None
    return rows


def require_ids(found: Iterable[str], wanted: Iterable[str], name: str | Path, source: str | Path) -> None:
    """Every id exactly once, as in the source.

    Raises:
        DataError: ids that are missing or that are not wanted.
    """
    found, wanted = set(found), set(wanted)
    for ids, verb in ((wanted - found, "lacks"), (found - wanted, "has, beside those,")):
        if ids:
            shown = ", ".join(sorted(ids)[:3])
            raise DataError(f"{name}: {verb} {len(ids)} ids (the {len(wanted)} of {source} are wanted): {shown}")


def _spelt(one: Prediction) -> str:
    _require_confidence(one.score)
    _require_area(_rounded(one.box))
    numbers = [_number(one.score, _SCORE_DECIMALS), *(_number(value, _PIXEL_DECIMALS) for value in one.box)]
    return " ".join((one.name, *numbers))


def _number(value: float, decimals: int) -> str:
    text = f"{value:.{decimals}f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _require_confidence(score: float) -> None:
    if not 0 <= score <= 1:
        raise ValueError(f"confidence {score:g} outside 0..1")


def _rounded(box: Sequence[float]) -> list[float]:
    return [round(value, _PIXEL_DECIMALS) for value in box]


def _has_area(box: Sequence[float]) -> bool:
    x1, y1, x2, y2 = box
    return x2 > x1 and y2 > y1


def _require_area(box: Sequence[float]) -> None:
    if not _has_area(box):
        raise ValueError("a box without an area: {:g} {:g} {:g} {:g}".format(*box))


def _parsed(text: str, known: Sequence[str]) -> tuple[Prediction, ...]:
    words = text.split()
    if not words or len(words) % 6:
        raise ValueError(f"expected groups of six (class score x1 y1 x2 y2), got {len(words)} words")
    found: dict[str, list[Prediction]] = {}
    for start in range(0, len(words), 6):
        name, *numbers = words[start : start + 6]
        if name not in known:
            raise ValueError(f"unknown class '{name}', expected {', '.join(known)}")
        if "_" in (joined := " ".join(numbers)) or not joined.isascii():  # float() takes 1_0 and other scripts' digits
            raise ValueError(f"'{joined}' are no plain numbers")
        score, *box = (float(number) for number in numbers)
        if not all(map(math.isfinite, (score, *box))) or max(map(abs, box)) > _LARGEST:
            raise ValueError(f"'{joined}' is not finite")
        _require_confidence(score)
        _require_area(box)
        if name != OPACITY and (name in found or tuple(box) != UNIT_BOX):
            raise ValueError(f"class '{name}' once and with the box 0 0 1 1, not '{joined}'")
        found.setdefault(name, []).append(Prediction(name, score, tuple(box)))
    return tuple(one for row in found.values() for one in row)
