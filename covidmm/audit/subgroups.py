"""How well a detector does on parts of the evaluated images, and whether its scores mean what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covidmm.audit.checks import Check, Level, Table
from covidmm.datasets.annotated_image import AnnotatedImage
from covidmm.errors import DataError
from covidmm.evaluation.bootstrap import RESAMPLES, draw_images, interval, resampled
from covidmm.evaluation.classification import reliability
from covidmm.evaluation.coco_dicts import found_by_image
from covidmm.evaluation.detection import rank_classes
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
        ranking: the boxes matched as COCOeval does, each image a cluster.
    """

    entries: tuple[AnnotatedImage, ...]
    studies: NDArray[np.intp]
    ranking: Ranking


def score(
    entries: Sequence[AnnotatedImage], results: Sequence[Mapping[str, Any]], category_ids: Sequence[int] = (1,)
) -> Scored:
    """Match predictions with the true boxes of their class on every image of the splits that they belong to.

    Args:
        entries: of one folder.
        results: a COCO results list.
        category_ids: of the folder's categories, by class index.

    Raises:
        DataError: a prediction belongs to no image or category, or none of the images has an opacity.
    """
    split_of = {entry.number: entry.split for entry in entries}
    if strangers := {one["image_id"] for one in results} - split_of.keys():
        raise DataError(f"prediction for image {min(strangers)}, which {entries[0].dataset} does not have")
    splits = {split_of[one["image_id"]] for one in results}
    # boxes of equal scores are ranked by image id, as COCOeval does
    used = tuple(sorted((entry for entry in entries if entry.split in splits), key=lambda entry: entry.number))
    if not any(len(entry.boxes) for entry in used):
        raise DataError(f"{entries[0].dataset}: no opacity in split {', '.join(sorted(splits))}, nothing to score")
    found = found_by_image(results, [entry.number for entry in used], category_ids)
    ranking = rank_classes(found, [entry.truth for entry in used], coco=True)
    return Scored(used, np.unique([entry.study_id for entry in used], return_inverse=True)[1], ranking)


def check_subgroups(scored: Scored, threshold: float | None = None, seed: int = 0) -> Check:
    """AP and F1 of each sex, view, modality and size, with intervals by resampling studies.

    A group is a warning where the interval of its AP less that of all other images leaves out 0, at 95 %
    divided by the number of groups judged (Bonferroni).

    Args:
        scored: see :func:`score`.
        threshold: for precision, recall and F1; None takes that of the best F1 of these images (optimistic).
        seed: draws the resamples.
    """
    ranking = scored.ranking
    chosen = ranking.operating_curve().best_f1().threshold if threshold is None else threshold
    draws = draw_images(scored.studies, seed, RESAMPLES)
    groups = _groups(scored.entries)
    judged = {key for key, mask in groups.items() if _enough(scored, mask) and _enough(scored, ~mask)}
    tail = TAIL / max(1, len(judged))
    rows, odd = [], []
    for key, mask in {("all", ""): np.ones(len(scored.entries), bool), **groups}.items():

        def statistic(weights: NDArray[np.float64], mask: NDArray[np.bool_] = mask) -> dict[str, float]:
            # without an opacity AP is unknown, but the points count as 0
            precision, recall, f1 = np.nan_to_num(ranking.at(chosen, weights * mask)).tolist()
            return {"area": ranking.coco_ap(weights * mask), "f1": f1, "precision": precision, "recall": recall}

        drawn, own = resampled(statistic, draws), statistic(np.ones(len(mask)))
        if key in judged:
            rest = np.array([ranking.coco_ap(draw * ~mask) for draw in draws])
            low, high = interval(drawn["area"] - rest, tail)
            odd += [key] if low > 0 or high < 0 else []
        studies = len(np.unique(scored.studies[mask]))
        numbers = own["area"], *interval(drawn["area"], TAIL), own["f1"], *interval(drawn["f1"], TAIL)
        numbers += own["precision"], own["recall"]
        rows.append((*key, int(mask.sum()), studies, int(ranking.truths[mask].sum()), *map(_rounded, numbers)))
    level = Level.WARNING if odd else Level.OK
    listed = ", ".join(f"{field} {value}" for field, value in odd)
    summary = f"AP@.50 {rows[0][5]} ({rows[0][6]} to {rows[0][7]}) on {rows[0][2]} images; "
    if odd:
        summary += f"differs from the others in {listed}"
    else:
        summary += f"no difference among {len(judged)} groups shown" if judged else "no group is large enough to judge"
    paragraph = (
        "A mean can hide a group on which the model fails. Studies were drawn with replacement a thousand times; the "
        f"intervals are 95 %. Groups of fewer than {MIN_STUDIES} studies or {MIN_BOXES} opacities are listed and not "
        "judged; 'no difference shown' in small groups is no proof of equality. "
    )
    if threshold is None:
        paragraph += f"The threshold {chosen:.3f} maximises F1 on these very images, so F1 is optimistic: give "
        paragraph += "--threshold with the one of validation."
    columns = ("field", "value", "images", "studies", "boxes", "ap50", "ap50_low", "ap50_high")
    columns += ("f1", "f1_low", "f1_high", "precision", "recall")
    found = {f"{row[0]} {row[1]}".strip(): dict(zip(columns[2:], row[2:], strict=True)) for row in rows}
    numbers = {"threshold": chosen, "judged": len(judged), "groups": found}
    return Check("subgroups", level, summary, paragraph, numbers, (Table("subgroups", columns, rows),))


def check_calibration(scored: Scored, bins: int = 10, seed: int = 0) -> Check:
    """Whether boxes of a score are right as often as the score says (D-ECE without position; Kueppers et al., 2020)."""
    ranking = scored.ranking
    found = reliability(ranking.scores, ranking.hits, bins)

    def error(weights: NDArray[np.float64]) -> dict[str, float]:
        times = weights[ranking.clusters].astype(int)
        if not times.any():
            return {"ece": float("nan")}
        return {"ece": reliability(np.repeat(ranking.scores, times), np.repeat(ranking.hits, times), bins)["ece"]}

    low, high = interval(resampled(error, draw_images(scored.studies, seed, RESAMPLES))["ece"], TAIL)
    rows = [(row["count"], _rounded(row["confidence"]), _rounded(row["accuracy"])) for row in found["bins"]]
    summary = f"error of box scores {found['ece']:.3f} ({low:.3f} to {high:.3f}), {len(ranking.scores)} boxes"
    paragraph = (
        "A calibrated score of 0.7 is right in seven boxes of ten. The error is the mean distance between score and "
        "share of boxes that match an opacity (IoU over 0.5), over ten bins. Detectors are rarely calibrated: the "
        "number is for information, and scores should not be read as probabilities unless it is small."
    )
    numbers = {"ece": found["ece"], "low": low, "high": high, "bins": found["bins"]}
    table = Table("calibration", ("boxes", "mean_score", "share_right"), rows)
    return Check("calibration", Level.OK, summary, paragraph, numbers, (table,))


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


def _enough(scored: Scored, mask: NDArray[np.bool_]) -> bool:
    return bool(len(np.unique(scored.studies[mask])) >= MIN_STUDIES and scored.ranking.truths[mask].sum() >= MIN_BOXES)


def _rounded(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None
