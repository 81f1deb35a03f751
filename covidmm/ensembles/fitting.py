"""Fits the numbers of a fusion on validation predictions, and takes them only if they help on images left out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covidmm.ensembles.learned import LearnedParameters, MemberParameters, logit
from covidmm.ensembles.pooled_boxes import Pool, require_weights
from covidmm.ensembles.validation_images import FusionCase, PooledCases, mean_ap_50, pool_cases
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


@dataclass(frozen=True)
class _Plain:
    """The fusion that a fitted one has to beat."""

    names: tuple[str, ...]
    weights: NDArray[np.float64]
    iou_thr: float
    skip_box_thr: float
    final_nms: float | None

    def parameters(self, images: int) -> LearnedParameters:
        pairs = zip(self.names, self.weights.tolist(), strict=True)
        members = tuple(MemberParameters(name, weight, self.skip_box_thr) for name, weight in pairs)
        return LearnedParameters(members, self.iou_thr, self.final_nms, images)


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
    """Fit a learned fusion on validation predictions.

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
    prepared = pool_cases(cases)
    if len(names) != prepared.count:
        raise ConfigError(f"{len(names)} names for {prepared.count} members")
    checked = require_weights([1.0] * prepared.count if weights is None else weights, prepared.count)
    try:
        WeightedBoxesFusion(iou_thr, skip_box_thr, final_nms)
    except ValueError as error:
        raise ConfigError(f"plain fusion: {error}") from error
    plain = _Plain(tuple(names), checked, iou_thr, skip_box_thr, final_nms)
    hits = [_hits(pool, truth, prepared.count) for pool, truth in zip(prepared.pools, prepared.truths, strict=True)]
    gains: list[tuple[float, float]] = []
    for number, (train, test) in enumerate(_parts(prepared, folds, seed)):
        fitted = _search(prepared.take(train), [hits[i] for i in train], plain)
        left_out = prepared.take(test)
        gains.append((_score(plain.parameters(len(train)), left_out), _score(fitted, left_out)))
        if progress is not None:
            progress(number + 1, folds + 1)
    before, after = np.array(gains).T
    error = float(np.std(after - before, ddof=1) / np.sqrt(folds))
    better = float((after - before).mean()) > error
    chosen = _search(prepared, hits, plain) if better else plain.parameters(len(prepared))
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


def _parts(cases: PooledCases, folds: int, seed: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Indices of the images to fit on and of those left out, for each fold; every fold has true boxes."""
    if not isinstance(folds, int) or folds < 2:
        raise ConfigError(f"folds must be 2 or more, not {folds!r}")
    opaque = np.unique(cases.groups[[len(truth) > 0 for truth in cases.truths]])
    if len(opaque) < folds:
        raise DataError(f"{len(opaque)} studies with a true box cannot be divided into {folds} folds")
    random = np.random.default_rng(seed)
    others = np.setdiff1d(cases.groups, opaque)
    dealt = np.concatenate([random.permutation(opaque), random.permutation(others)])
    part = np.empty(len(dealt), np.int64)
    part[dealt] = np.arange(len(dealt)) % folds
    for fold in range(folds):
        left_out = part[cases.groups] == fold
        yield np.flatnonzero(~left_out), np.flatnonzero(left_out)


def _search(cases: PooledCases, hits: Sequence[NDArray[np.bool_]], plain: _Plain) -> LearnedParameters:
    """The parameters with the greatest mAP@.50 that searches from raw and from calibrated scores find."""
    start = plain.parameters(len(cases))
    calibrated = dataclasses.replace(start, members=_calibrated(cases, hits, start.members))
    found = [_climb(one, cases) for one in (start, calibrated)]
    return max(found, key=lambda pair: pair[1])[0]


def _climb(current: LearnedParameters, cases: PooledCases) -> tuple[LearnedParameters, float]:
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


def _calibrated(
    cases: PooledCases, hits: Sequence[NDArray[np.bool_]], members: tuple[MemberParameters, ...]
) -> tuple[MemberParameters, ...]:
    """The members with their calibration; scores stay as they are where none can be fitted."""
    from sklearn.linear_model import LogisticRegression

    scores = np.concatenate([pool.scores for pool in cases.pools])
    owners = np.concatenate([pool.members for pool in cases.pools])
    right = np.concatenate(hits)
    found = list(members)
    for index in range(len(members)):
        own = owners == index
        if len(np.unique(right[own])) == 2:
            model = LogisticRegression().fit(logit(scores[own])[:, None], right[own])
            slope, intercept = float(model.coef_[0, 0]), float(model.intercept_[0])
            # where sure boxes are wrong more often than unsure ones, there is nothing to calibrate
            if slope > 0:
                found[index] = dataclasses.replace(found[index], slope=slope, intercept=intercept)
    return tuple(found)


def _hits(pool: Pool, truths: NDArray[np.float64], count: int) -> NDArray[np.bool_]:
    """(N,) which boxes are true positives among those of their member."""
    hits = np.zeros(len(pool), bool)
    for index in range(count):
        own = np.flatnonzero(pool.members == index)
        hits[own] = match(pool.boxes[own], pool.scores[own], truths)
    return hits


def _score(parameters: LearnedParameters, cases: PooledCases) -> float:
    return mean_ap_50([parameters.fuse_pool(pool) for pool in cases.pools], cases.truths)
