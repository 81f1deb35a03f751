"""Fits the numbers of a fusion on validation predictions, and takes them only if they help on images left out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covidmm.ensembles.learned import LearnedParameters, MemberParameters, logit
from covidmm.ensembles.pooled_boxes import require_weights
from covidmm.ensembles.validation_images import FusionCase, group_numbers, mean_ap_50, require_cases
from covidmm.ensembles.wbf import WeightedBoxesFusion
from covidmm.errors import ConfigError, DataError
from covidmm.evaluation.detection import match

# What is tried, one parameter at a time; all chosen here.
_IOU_THRESHOLDS = (0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7)
_RELATIVE_WEIGHTS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0)
_SCORE_THRESHOLDS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2)
_ROUNDS = 2
#: A change must raise mAP@.50 by this much, or it is taken for noise.
_LEAST_GAIN = 0.001


def fit(
    cases: Sequence[FusionCase],
    names: Sequence[str],
    *,
    weights: Sequence[float] | None = None,
    iou_thr: float = 0.55,
    skip_box_thr: float = 0.0,
    final_nms: float | None = None,
    folds: int = 5,
    seed: int = 0,
    metadata: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> LearnedParameters:
    """Fit a learned fusion of one class on validation predictions.

    Each member's scores are calibrated to the probability that a box is a true positive (Platt, 1999, on the logit
    of the score). Then the IoU threshold, the members' weights and score thresholds are searched one at a time for
    the greatest mAP@.50. All of that is repeated with each of ``folds`` parts of the images left out, whole groups
    at a time, and scored there. Unless the fitted fusion beats plain weighted boxes fusion on the left-out images by
    more than the standard error of the difference (the rule of one standard error, Breiman et al., 1984), the plain
    one's parameters are the result.

    Args:
        cases: images of the validation split, never of the test split, those without a true box included.
        names: the members' names in the order of the cases.
        weights: of the plain fusion, one positive number per member; equal by default.
        iou_thr: of the plain fusion.
        skip_box_thr: of the plain fusion.
        final_nms: suppression after either fusion, None for none.
        folds: parts of the cross-validation, 2 at least.
        seed: of the division into parts.
        metadata: kept under ``fitted_on``: JSON values such as the hashes of predictions and data.
        progress: called with the fits done and their number after each.

    Raises:
        DataError: cases that cannot be scored, or fewer groups with a true box than folds.
        ConfigError: names or weights that do not fit the members, a number out of its range.
    """
    count = require_cases(cases)
    if len(names) != count:
        raise ConfigError(f"{len(names)} names for {count} members")
    plain = plain_parameters(names, len(cases), weights, iou_thr, skip_box_thr, final_nms)
    gains: list[tuple[float, float]] = []
    for number, (train, test) in enumerate(_parts(cases, folds, seed)):
        fitted = _search(train, plain)
        gains.append((_score(plain, test), _score(fitted, test)))
        if progress is not None:
            progress(number + 1, folds + 1)
    before, after = np.array(gains).T
    error = float(np.std(after - before, ddof=1) / np.sqrt(folds))
    better = float((after - before).mean()) > error
    chosen = _search(cases, plain) if better else plain
    if progress is not None:
        progress(folds + 1, folds + 1)
    report = {
        "folds": folds,
        "plain_mAP_50": float(before.mean()),
        "learned_mAP_50": float(after.mean()),
        "standard_error_of_difference": error,
        "chosen": "learned" if better else "plain",
    }
    return dataclasses.replace(chosen, cross_validation=report, fitted_on=dict(metadata or {}))


def plain_parameters(
    names: Sequence[str],
    images: int,
    weights: Sequence[float] | None = None,
    iou_thr: float = 0.55,
    skip_box_thr: float = 0.0,
    final_nms: float | None = None,
) -> LearnedParameters:
    """Plain weighted boxes fusion as parameters of a learned one.

    Args:
        names: the members' names.
        images: how many it is kept for.
        weights: one positive number per member; equal by default.
        iou_thr: as in :class:`covidmm.ensembles.wbf.WeightedBoxesFusion`, like the rest.
        skip_box_thr: as there.
        final_nms: as there.

    Raises:
        ConfigError: weights that do not fit the members, a number out of its range.
    """
    checked = require_weights([1.0] * len(names) if weights is None else weights, len(names))
    try:
        WeightedBoxesFusion(iou_thr, skip_box_thr, final_nms)
    except ValueError as error:
        raise ConfigError(f"plain fusion: {error}") from error
    pairs = zip(names, checked.tolist(), strict=True)
    members = tuple(MemberParameters(name, weight, skip_box_thr) for name, weight in pairs)
    return LearnedParameters(members, iou_thr, final_nms, images)


def _parts(cases: Sequence[FusionCase], folds: int, seed: int) -> Iterator[tuple[list[FusionCase], list[FusionCase]]]:
    """The images to fit on and those left out, for each fold; every fold has true boxes."""
    if not isinstance(folds, int) or folds < 2:
        raise ConfigError(f"folds must be 2 or more, not {folds!r}")
    groups = group_numbers(cases)
    opaque = np.unique(groups[[len(case.truths_norm) > 0 for case in cases]])
    if len(opaque) < folds:
        raise DataError(f"{len(opaque)} studies with a true box cannot be divided into {folds} folds")
    random = np.random.default_rng(seed)
    others = np.setdiff1d(groups, opaque)
    dealt = np.concatenate([random.permutation(opaque), random.permutation(others)])
    part = np.empty(len(dealt), np.int64)
    part[dealt] = np.arange(len(dealt)) % folds
    for fold in range(folds):
        left_out = part[groups] == fold
        yield (
            [case for case, out in zip(cases, left_out, strict=True) if not out],
            [case for case, out in zip(cases, left_out, strict=True) if out],
        )


def _search(cases: Sequence[FusionCase], plain: LearnedParameters) -> LearnedParameters:
    """The parameters with the greatest mAP@.50 that searches from raw and from calibrated scores find."""
    start = dataclasses.replace(plain, images=len(cases))
    calibrated = dataclasses.replace(start, members=_calibrated(cases, start.members))
    found = [_climb(one, cases) for one in (start, calibrated)]
    return max(found, key=lambda pair: pair[1])[0]


def _climb(current: LearnedParameters, cases: Sequence[FusionCase]) -> tuple[LearnedParameters, float]:
    """Change one parameter at a time as long as that helps: the end, and its mAP@.50."""
    best = _score(current, cases)
    for _ in range(_ROUNDS):
        before = best
        for direction in _directions(current.members):
            for candidate in direction(current):
                if candidate != current and (score := _score(candidate, cases)) > best + _LEAST_GAIN:
                    current, best = candidate, score
        if best == before:
            break
    return current, best


def _directions(
    members: tuple[MemberParameters, ...],
) -> list[Callable[[LearnedParameters], Iterator[LearnedParameters]]]:
    """The ways to change a parameter, each of which yields what to try."""

    def thresholds(found: LearnedParameters) -> Iterator[LearnedParameters]:
        for value in _IOU_THRESHOLDS:
            yield dataclasses.replace(found, iou_thr=value)

    def of_member(index: int, name: str, values: Sequence[float]) -> Callable[..., Iterator[LearnedParameters]]:
        def tries(found: LearnedParameters) -> Iterator[LearnedParameters]:
            for value in values:
                members = list(found.members)
                members[index] = dataclasses.replace(members[index], **{name: value})
                yield dataclasses.replace(found, members=tuple(members))

        return tries

    # only ratios count, so the first member's weight stays
    weights = [ratio * members[0].weight for ratio in _RELATIVE_WEIGHTS]
    return [
        thresholds,
        *(of_member(index, "weight", weights) for index in range(1, len(members))),
        *(of_member(index, "score_threshold", _SCORE_THRESHOLDS) for index in range(len(members))),
    ]


def _calibrated(cases: Sequence[FusionCase], members: tuple[MemberParameters, ...]) -> tuple[MemberParameters, ...]:
    """The members with their calibration; scores stay as they are where none can be fitted."""
    # a second and a half to import, which every run of tools/ensemble.py would pay
    from sklearn.linear_model import LogisticRegression

    scores = np.concatenate([case.pool.scores for case in cases])
    members_of_boxes = np.concatenate([case.pool.members for case in cases])
    right = np.concatenate([_hits(case) for case in cases])
    found = list(members)
    for index in range(len(members)):
        own = members_of_boxes == index
        if len(np.unique(right[own])) == 2:
            model = LogisticRegression().fit(logit(scores[own])[:, None], right[own])
            slope, intercept = float(model.coef_[0, 0]), float(model.intercept_[0])
            # where sure boxes are wrong more often than unsure ones, there is nothing to calibrate
            if slope > 0:
                found[index] = dataclasses.replace(found[index], slope=slope, intercept=intercept)
    return tuple(found)


def _hits(case: FusionCase) -> NDArray[np.bool_]:
    """(N,) which boxes are true positives among those of their member."""
    pool = case.pool
    hits = np.zeros(len(pool), bool)
    for index in np.unique(pool.members):
        own = np.flatnonzero(pool.members == index)
        hits[own] = match(pool.boxes[own], pool.scores[own], case.truths_norm)
    return hits


def _score(parameters: LearnedParameters, cases: Sequence[FusionCase]) -> float:
    return mean_ap_50([parameters.fuse_pool(case.pool) for case in cases], cases)
