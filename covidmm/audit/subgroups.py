"""How well a detector does on parts of the evaluated images, and whether its scores mean what they say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covidmm.audit.checks import Check, Level, Table
from covidmm.datasets.annotated_image import AnnotatedImage
from covidmm.errors import DataError
from covidmm.evaluation.bootstrap import RESAMPLES, draw_images, interval, resampled
from covidmm.evaluation.box_calibration import BoxCalibration
from covidmm.evaluation.coco_dicts import found_by_image
from covidmm.evaluation.detection import rank_each
from covidmm.evaluation.ranking import Ranking

FIELDS = ("sex", "view", "modality", "size")
#: The share of draws beyond either end of an interval.
TAIL = 0.025
#: A group with fewer studies or boxes is listed and not judged.
MIN_STUDIES, MIN_BOXES = 10, 20


@dataclass(frozen=True)
class Scored:
    """The evaluated images and all boxes on them.

    Attributes:
        entries: the I evaluated images.
        studies: (I,) index of each image's study.
        rankings: of each class that has a true box, by name, the boxes matched as COCOeval does, each image a cluster.
    """

    entries: tuple[AnnotatedImage, ...]
    studies: NDArray[np.intp]
    rankings: Mapping[str, Ranking]

    def boxes(self, mask: NDArray[np.bool_], names: Iterable[str]) -> NDArray[np.int64]:
        """(I,) true boxes of some classes on the images of a mask."""
        return sum(self.rankings[name].truths for name in names) * mask


def score(
    entries: Sequence[AnnotatedImage], results: Sequence[Mapping[str, Any]], category_ids: Sequence[int] = (1,)
) -> Scored:
    """Match predictions with the true boxes of their class on every image of the splits that they belong to.

    Args:
        entries: of one folder.
        results: a COCO results list.
        category_ids: of the folder's categories, by class index.

    Raises:
        DataError: a prediction belongs to no image or category, or none of the images has a box.
    """
    split_of = {entry.number: entry.split for entry in entries}
    if strangers := {one["image_id"] for one in results} - split_of.keys():
        raise DataError(f"prediction for image {min(strangers)}, which {entries[0].dataset} does not have")
    splits = {split_of[one["image_id"]] for one in results}
    # boxes of equal scores are ranked by image id, as COCOeval does
    used = tuple(sorted((entry for entry in entries if entry.split in splits), key=lambda entry: entry.number))
    if not any(len(entry.boxes) for entry in used):
        raise DataError(f"{entries[0].dataset}: no true box in split {', '.join(sorted(splits))}, nothing to score")
    found = found_by_image(results, [entry.number for entry in used], category_ids)
    ranked = rank_each(found, [entry.truth for entry in used], len(category_ids), coco=True)
    rankings = {name: one for name, one in zip(used[0].categories, ranked, strict=True) if one.truths.any()}
    return Scored(used, np.unique([entry.study_id for entry in used], return_inverse=True)[1], rankings)


def check_subgroups(scored: Scored, threshold: float | None = None, seed: int = 0) -> Check:
    """AP and F1 of each sex, view, modality and size, with intervals by resampling studies.

    Of several classes they are means of those that a group holds, and the AP of each class is judged too. A group is a
    warning where the interval of its AP less that of all other images leaves out 0, at 95 % divided by the number of
    groups, or of groups and classes, judged (Bonferroni).

    Args:
        scored: see :func:`score`.
        threshold: for precision, recall and F1; None takes those of the best F1 of these images (optimistic).
        seed: draws the resamples.
    """
    chosen = {
        name: ranking.operating_curve().best_f1().threshold if threshold is None else threshold
        for name, ranking in scored.rankings.items()
    }
    draws = draw_images(scored.studies, seed, RESAMPLES)
    groups = _groups(scored.entries)
    judged = [key for key, mask in groups.items() if _enough(scored, mask) and _enough(scored, ~mask)]
    names = list(scored.rankings) if len(scored.rankings) > 1 else []
    pairs = [(key, name) for key in judged for name in names if _judged(scored, groups[key], name)]
    rows, by_class, odd = [], [], []
    for key, mask in {("all", ""): np.ones(len(scored.entries), bool), **groups}.items():
        inside = resampled(lambda draw, mask=mask: _values(scored, chosen, draw * mask), draws)
        own = _values(scored, chosen, np.ones(len(mask)) * mask)
        differences = {}
        if key in judged:
            outside = resampled(lambda draw, mask=mask: _areas(scored, draw * ~mask), draws)
            differences = {name: inside[name] - values for name, values in outside.items()}
            odd += [key] if _apart(differences["area"], len(judged)) else []
        studies = len(np.unique(scored.studies[mask]))
        numbers = own["area"], *interval(inside["area"], TAIL), own["f1"], *interval(inside["f1"], TAIL)
        numbers += own["precision"], own["recall"]
        boxes = int(scored.boxes(mask, scored.rankings).sum())
        rows.append((*key, int(mask.sum()), studies, boxes, *map(_rounded, numbers)))
        for name in names:
            apart = (key, name) in pairs and _apart(differences[f"area {name}"], len(pairs))
            odd += [(*key, name)] if apart else []
            area = own[f"area {name}"], *interval(inside[f"area {name}"], TAIL)
            by_class.append((name, *key, int(scored.boxes(mask, [name]).sum()), *map(_rounded, area)))
    return _subgroups(chosen, threshold is None, len(judged), odd, rows, by_class)


def _subgroups(
    chosen: Mapping[str, float],
    optimistic: bool,
    judged: int,
    odd: Sequence[tuple[str, ...]],
    rows: Sequence[tuple],
    by_class: Sequence[tuple],
) -> Check:
    """The check of what was found; ``odd`` are field and value, and where it is of one class its name."""
    level = Level.WARNING if odd else Level.OK
    listed = ", ".join(f"{key[0]} {key[1]}" + (f" ({key[2]})" if key[2:] else "") for key in odd)
    summary = f"AP@.50 {rows[0][5]} ({rows[0][6]} to {rows[0][7]}) on {rows[0][2]} images; "
    if odd:
        summary += f"differs from the others in {listed}"
    else:
        summary += f"no difference among {judged} groups shown" if judged else "no group is large enough to judge"
    paragraph = (
        "A mean can hide a group on which the model fails. Studies were drawn with replacement a thousand times; the "
        f"intervals are 95 %. Groups of fewer than {MIN_STUDIES} studies or {MIN_BOXES} boxes are listed and not "
        "judged; 'no difference shown' in small groups is no proof of equality. "
    )
    if len(chosen) > 1:
        paragraph += (
            "Numbers are means of the classes that a group holds; each class is judged by itself, too, where it has "
            "as many boxes. "
        )
    if optimistic:
        text = (
            f"The threshold {next(iter(chosen.values())):.3f} maximises" if len(chosen) == 1 else "Thresholds maximise"
        )
        paragraph += (
            f"{text} F1 on these very images, so F1 is optimistic: give --threshold with the one of validation."
        )
    columns = ("field", "value", "images", "studies", "boxes", "ap50", "ap50_low", "ap50_high")
    columns += ("f1", "f1_low", "f1_high", "precision", "recall")
    found = {f"{row[0]} {row[1]}".strip(): dict(zip(columns[2:], row[2:], strict=True)) for row in rows}
    thresholds = {"threshold": next(iter(chosen.values()))} if len(chosen) == 1 else {"thresholds": dict(chosen)}
    tables = [Table("subgroups", columns, rows)]
    if by_class:
        columns = ("class", "field", "value", "boxes", "ap50", "ap50_low", "ap50_high")
        tables.append(Table("subgroups-classes", columns, by_class))
    return Check(
        "subgroups", level, summary, paragraph, {**thresholds, "judged": judged, "groups": found}, tuple(tables)
    )


def check_calibration(scored: Scored, seed: int = 0) -> Check:
    """Whether boxes of a score are right as often as the score says, of each class and their mean.

    See :class:`~covidmm.evaluation.box_calibration.BoxCalibration`.
    """
    found = {name: BoxCalibration(one) for name, one in scored.rankings.items() if len(one.scores)}

    def errors(weights: NDArray[np.float64]) -> dict[str, float]:
        own = {name: one.ece(weights) for name, one in found.items()}
        known = [value for value in own.values() if np.isfinite(value)]
        return {**own, "": float(np.mean(known)) if known else float("nan")}

    drawn = resampled(errors, draw_images(scored.studies, seed, RESAMPLES))
    numbers = {}
    for name, value in errors(np.ones(len(scored.entries))).items():
        low, high = interval(drawn[name], TAIL)
        numbers[name] = {"ece": value, "low": low, "high": high}
    rows = [
        (name, row["count"], _rounded(row["confidence"]), _rounded(row["accuracy"]))
        for name, one in found.items()
        for row in one.rows
    ]
    mean = numbers.pop("")
    boxes = sum(len(one.scores) for one in scored.rankings.values())
    summary = f"error of box scores {mean['ece']:.3f} ({mean['low']:.3f} to {mean['high']:.3f}), {boxes} boxes"
    if len(found) > 1:
        worst = max(found, key=lambda name: numbers[name]["ece"])
        summary += f" of {len(found)} classes, largest of {worst}: {numbers[worst]['ece']:.3f}"
    paragraph = (
        "A calibrated score of 0.7 is right in seven boxes of ten. The error is the mean distance between score and "
        "share of boxes that match a true box of their class (IoU of 0.5 or more), over ten bins. Detectors are rarely "
        "calibrated: the number is for information, and scores should not be read as probabilities unless it is small."
    )
    several = len(scored.rankings) > 1
    bins = {name: list(one.rows) for name, one in found.items()}
    of_each = {name: {**own, "bins": bins[name]} for name, own in numbers.items()}
    content = {**mean, "classes": of_each} if several else {**mean, "bins": next(iter(bins.values()), [])}
    columns = ("class", "boxes", "mean_score", "share_right")[not several :]
    table = Table("calibration", columns, [row[not several :] for row in rows])
    return Check("calibration", Level.OK, summary, paragraph, content, (table,))


def _values(scored: Scored, chosen: Mapping[str, float], weights: NDArray[np.float64]) -> dict[str, float]:
    """AP of each class, and means of AP, F1, precision and recall over the classes that have a box."""
    points = [ranking.at(chosen[name], weights) for name, ranking in scored.rankings.items()]
    known = [point for point in points if not np.isnan(point[0])]
    # without a box AP is unknown, but the points count as 0
    precision, recall, f1 = np.mean(known, axis=0).tolist() if known else (0.0, 0.0, 0.0)
    return {**_areas(scored, weights), "f1": f1, "precision": precision, "recall": recall}


def _areas(scored: Scored, weights: NDArray[np.float64]) -> dict[str, float]:
    """AP of each class, and their mean."""
    areas = {name: ranking.coco_ap(weights) for name, ranking in scored.rankings.items()}
    known = [value for value in areas.values() if not np.isnan(value)]
    mean = float(np.mean(known)) if known else float("nan")
    return {"area": mean, **({f"area {name}": value for name, value in areas.items()} if len(areas) > 1 else {})}


def _apart(differences: NDArray[np.float64], tests: int) -> bool:
    """Whether the interval of a difference, one of several tests, leaves out 0."""
    low, high = interval(differences, TAIL / tests)
    return bool(low > 0 or high < 0)


def _judged(scored: Scored, mask: NDArray[np.bool_], name: str) -> bool:
    """Whether a class has boxes enough on both sides."""
    return all(_enough(scored, side, [name]) for side in (mask, ~mask))


def _groups(entries: Sequence[AnnotatedImage]) -> dict[tuple[str, str], NDArray[np.bool_]]:
    """(Field, value) -> (I,) which images; size is halved at the median of the longer side of the original."""
    longer = [max(entry.original_size) for entry in entries]
    middle = float(np.median(longer))
    groups = {}
    for field in FIELDS:
        values = [str(entry.coco.get(field) or "unknown") for entry in entries]
        if field == "size":
            values = [f"up to {middle:g} px" if one <= middle else f"over {middle:g} px" for one in longer]
        for value in sorted(set(values)):
            groups[field, value] = np.array([one == value for one in values])
    return groups


def _enough(scored: Scored, mask: NDArray[np.bool_], names: Iterable[str] | None = None) -> bool:
    """Whether a group has studies and boxes enough; of some classes, studies with such a box."""
    boxes = scored.boxes(mask, scored.rankings if names is None else names)
    studies = scored.studies[mask if names is None else boxes > 0]
    return bool(len(np.unique(studies)) >= MIN_STUDIES and boxes.sum() >= MIN_BOXES)


def _rounded(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None
