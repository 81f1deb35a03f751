"""How well a detector does on parts of the evaluated images, and whether its scores mean what they say."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covidmm.audit.checks import Check, Level, Table
from covidmm.datasets.annotated_image import AnnotatedImage
from covidmm.errors import DataError
from covidmm.evaluation.classification import reliability
from covidmm.evaluation.detection import IOU_THRESHOLD, require_finite
from covidmm.utils.boxes import xywh
from covidmm.utils.fileio import json_value

FIELDS = ("sex", "view", "modality", "size")
RESAMPLES = 1000
#: A group with fewer studies or boxes is listed and not judged.
MIN_STUDIES, MIN_BOXES = 10, 20
_RECALLS = np.linspace(0, 1, 101)
_MAX_DETECTIONS = 100  # COCO's


@dataclass(frozen=True)
class Scored:
    """All boxes of the evaluated images, highest score first.

    Attributes:
        entries: the evaluated images.
        studies: (I,) index of each image's study.
        image: (D,) index of each box's image.
        scores: (D,).
        hits: (D,) whether COCO's matching at IoU 0.5 gives it an opacity.
        truths: (I,) number of opacities.
    """

    entries: tuple[AnnotatedImage, ...]
    studies: NDArray[np.intp]
    image: NDArray[np.intp]
    scores: NDArray[np.float64]
    hits: NDArray[np.bool_]
    truths: NDArray[np.intp]


def read_predictions(path: Path) -> list[dict[str, Any]]:
    """Read a COCO results list, as ``tools/test.py --out`` writes it.

    Raises:
        DataError: the file is missing, is no such list, is empty, or has a box or score that is not finite.
    """
    try:
        content = json_value(path.read_text())
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"{path}: is not JSON ({error})") from error
    if not isinstance(content, list) or not content:
        raise DataError(f"{path}: expected a COCO results list with at least one box")
    try:
        values = [(int(one["image_id"]), [float(v) for v in one["bbox"]], float(one["score"])) for one in content]
    except (TypeError, KeyError, ValueError) as error:
        raise DataError(f"{path}: not a COCO results list ({type(error).__name__}: {error})") from error
    results = [{"image_id": image, "category_id": 1, "bbox": box, "score": score} for image, box, score in values]
    if any(len(one["bbox"]) != 4 or not 0 <= one["score"] <= 1 for one in results):
        raise DataError(f"{path}: expected boxes of four numbers and scores in 0..1")
    try:
        require_finite(results)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return results


def score(entries: Sequence[AnnotatedImage], results: Sequence[Mapping[str, Any]]) -> Scored:
    """Match predictions with the opacities of every image of the splits that they belong to.

    Raises:
        DataError: a prediction belongs to no image, or none of the images has an opacity.
    """
    split_of = {entry.number: entry.split for entry in entries}
    if strangers := {one["image_id"] for one in results} - split_of.keys():
        raise DataError(f"prediction for image {min(strangers)}, which {entries[0].dataset} does not have")
    splits = {split_of[one["image_id"]] for one in results}
    used = tuple(entry for entry in entries if entry.split in splits)
    truths = np.array([len(entry.boxes) for entry in used])
    if not truths.sum():
        raise DataError(f"{entries[0].dataset}: no opacity in split {', '.join(sorted(splits))}, nothing to score")
    image, scores, hits = _match(used, results)
    order = np.argsort(-scores, kind="mergesort")
    _, studies = np.unique([entry.study_id for entry in used], return_inverse=True)
    return Scored(used, studies, image[order], scores[order], hits[order], truths)


def average_precision(scored: Scored, weights: NDArray[np.floating]) -> float:
    """COCO's AP at IoU 0.5 with image ``i`` counted ``weights[i]`` times; NaN without an opacity."""
    total = float(weights @ scored.truths)
    if not total:
        return float("nan")
    counted = weights[scored.image]
    found = np.cumsum(counted * scored.hits)
    given = np.cumsum(counted)
    precision = np.divide(found, given, out=np.zeros_like(found), where=given > 0)
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return float(envelope[np.searchsorted(found / total, _RECALLS)].mean())


def operating_point(scored: Scored, weights: NDArray[np.floating], threshold: float) -> tuple[float, float, float]:
    """Precision, recall and F1 of the boxes with a score of at least ``threshold``."""
    kept = scored.scores >= threshold
    counted = weights[scored.image] * kept
    found, given, total = float(counted @ scored.hits), float(counted.sum()), float(weights @ scored.truths)
    return found / given if given else 0.0, found / total if total else 0.0, 2 * found / ((given + total) or 1.0)


def best_threshold(scored: Scored) -> float:
    """The score at which F1 of all images is greatest."""
    found, given = np.cumsum(scored.hits), np.arange(1, len(scored.scores) + 1)
    last = np.append(np.diff(scored.scores) != 0, True)
    return float(scored.scores[int(np.where(last, 2 * found / (given + scored.truths.sum()), -1).argmax())])


def check_subgroups(scored: Scored, threshold: float | None = None, seed: int = 0) -> Check:
    """AP and F1 of each sex, view, modality and size, with intervals by resampling studies.

    A group is a warning where the interval of its AP less that of all other images leaves out 0, at 95 %
    divided by the number of groups judged (Bonferroni).

    Args:
        scored: see :func:`score`.
        threshold: for precision, recall and F1; None takes that of the best F1 of these images (optimistic).
        seed: draws the resamples.
    """
    chosen = best_threshold(scored) if threshold is None else threshold
    draws = _resamples(scored.studies, np.random.default_rng(seed))
    groups = _groups(scored.entries)
    judged = {key for key, mask in groups.items() if _enough(scored, mask) and _enough(scored, ~mask)}
    tail = 0.025 / max(1, len(judged))
    rows, odd = [], []
    for key, mask in {("all", ""): np.ones(len(scored.truths), bool), **groups}.items():
        areas = np.array([average_precision(scored, draw * mask) for draw in draws])
        points = np.array([operating_point(scored, draw * mask, chosen)[2] for draw in draws])
        area = average_precision(scored, mask.astype(float))
        precision, recall, f1 = operating_point(scored, mask.astype(float), chosen)
        if key in judged:
            rest = np.array([average_precision(scored, draw * ~mask) for draw in draws])
            low, high = np.nanquantile(areas - rest, (tail, 1 - tail))
            odd += [key] if low > 0 or high < 0 else []
        studies = len(np.unique(scored.studies[mask]))
        numbers = area, *_interval(areas), f1, *_interval(points), precision, recall
        rows.append((*key, int(mask.sum()), studies, int(scored.truths[mask].sum()), *map(_rounded, numbers)))
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
    found = reliability(scored.scores, scored.hits, bins)
    draws = _resamples(scored.studies, np.random.default_rng(seed))
    errors = []
    for draw in draws:
        times = draw[scored.image].astype(int)
        if times.any():
            repeated = np.repeat(scored.scores, times), np.repeat(scored.hits, times)
            errors.append(reliability(*repeated, bins)["ece"])
    low, high = _interval(np.array(errors))
    rows = [(row["count"], _rounded(row["confidence"]), _rounded(row["accuracy"])) for row in found["bins"]]
    summary = f"error of box scores {found['ece']:.3f} ({low:.3f} to {high:.3f}), {len(scored.scores)} boxes"
    paragraph = (
        "A calibrated score of 0.7 is right in seven boxes of ten. The error is the mean distance between score and "
        "share of boxes that match an opacity (IoU over 0.5), over ten bins. Detectors are rarely calibrated: the "
        "number is for information, and scores should not be read as probabilities unless it is small."
    )
    numbers = {"ece": found["ece"], "low": low, "high": high, "bins": found["bins"]}
    table = Table("calibration", ("boxes", "mean_score", "share_right"), rows)
    return Check("calibration", Level.OK, summary, paragraph, numbers, (table,))


def _match(
    entries: Sequence[AnnotatedImage], results: Sequence[Mapping[str, Any]]
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.bool_]]:
    """Image index, score and hit of every prediction, by pycocotools."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    place = {entry.number: index for index, entry in enumerate(entries)}
    boxes = [(entry.number, box) for entry in entries for box in xywh(entry.boxes).tolist()]
    annotations = [
        {"id": number, "image_id": image, "category_id": 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        for number, (image, box) in enumerate(boxes, start=1)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        images = [dict(entry.coco) for entry in entries]
        truth.dataset = {"info": {}, "images": images, "annotations": annotations, "categories": [{"id": 1}]}
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes([dict(one) for one in results]), "bbox")
        evaluation.params.iouThrs = np.array([IOU_THRESHOLD])
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.maxDets = [_MAX_DETECTIONS]
        evaluation.evaluate()
    found = [one for one in evaluation.evalImgs if one is not None]
    image = [np.full(len(one["dtScores"]), place[one["image_id"]]) for one in found]
    scores = [np.asarray(one["dtScores"], np.float64) for one in found]
    hits = [np.asarray(one["dtMatches"][0]) > 0 for one in found]
    return np.concatenate(image).astype(np.intp), np.concatenate(scores), np.concatenate(hits)


def _resamples(studies: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.float64]:
    """(RESAMPLES, I) how often each image is drawn when studies are drawn with replacement."""
    count = int(studies.max()) + 1
    times = rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    return times[:, studies].astype(np.float64)


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
    return bool(len(np.unique(scored.studies[mask])) >= MIN_STUDIES and scored.truths[mask].sum() >= MIN_BOXES)


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """95 % by percentiles; (NaN, NaN) where no resample has a value."""
    known = values[np.isfinite(values)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, (0.025, 0.975))
    return float(low), float(high)


def _rounded(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None
