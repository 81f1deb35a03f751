"""Precision, recall and average precision of ranked predictions, taken again and again over resampled studies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.floating]
#: COCOeval's recalls.
_RECALLS = np.linspace(0, 1, 101)
#: False positives per image at which LUNA16 takes the sensitivity (Setio et al., Medical Image Analysis 2017).
FALSE_POSITIVES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True)
class Ranking:
    """All predictions of one class by falling score, each a true or a false positive in every sample.

    Attributes:
        scores: (N,) falling.
        hits: (N,) true positives.
        clusters: (N,) the cluster, a study or an image, that each belongs to.
        truths: (S,) true boxes of each cluster.
        images: (S,) images of each cluster.
    """

    scores: NDArray[np.float64]
    hits: NDArray[np.bool_]
    clusters: NDArray[np.int64]
    truths: NDArray[np.int64]
    images: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        scores: Sequence[NDArray],
        hits: Sequence[NDArray],
        truths: Sequence[int],
        clusters: Sequence[int] | None = None,
    ) -> Ranking:
        """Pool the predictions of images.

        Args:
            scores: per image, (N,).
            hits: per image, (N,).
            truths: per image, the number of its true boxes.
            clusters: per image, its study, from 0 without gaps; None makes every image a cluster.
        """
        pooled = np.concatenate([np.zeros(0), *scores]).astype(np.float64)
        order = np.argsort(-pooled, kind="stable")
        number = np.arange(len(truths)) if clusters is None else np.asarray(clusters, np.int64)
        return cls(
            pooled[order],
            np.concatenate([np.zeros(0, bool), *hits])[order],
            np.repeat(number, [len(one) for one in scores])[order],
            np.bincount(number, weights=truths).astype(np.int64),
            np.bincount(number),
        )

    def curve(self, weights: Weights | None = None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Precision and recall at each distinct score as it falls; recall is nan where there is no truth.

        Args:
            weights: (S,) how often each cluster counts; None for once.
        """
        _, found, kept, total = self._distinct(weights)
        return found / kept, found / total if total else np.full(len(found), np.nan)

    def voc_ap(self, weights: Weights | None = None) -> float:
        """Area under the precision envelope (PASCAL VOC 2010), nan where there is no truth."""
        precision, recall = self.curve(weights)
        if not self._total(weights):
            return float("nan")
        return float((np.diff(recall, prepend=0.0) * _envelope(precision)).sum())

    def step_ap(self, weights: Weights | None = None) -> float:
        """Sum of the precision at each step of recall, as scikit-learn's average precision; nan without a truth."""
        precision, recall = self.curve(weights)
        if not self._total(weights):
            return float("nan")
        return float((np.diff(recall, prepend=0.0) * precision).sum())

    def coco_ap(self, weights: Weights | None = None) -> float:
        """Mean of the envelope at COCOeval's 101 recalls, equal scores one by one; nan where there is no truth.

        COCOeval's own number where :func:`~covidmm.evaluation.detection.rank` matched as COCOeval does.
        """
        total = self._total(weights)
        if not total:
            return float("nan")
        # precision falls between true positives, and recall stays
        found, kept = self._until(self._true, weights)
        precision = np.divide(found, kept, out=np.zeros(len(kept)), where=kept > 0)
        return float(np.append(_envelope(precision), 0.0)[np.searchsorted(found / total, _RECALLS)].mean())

    def at(self, threshold: float, weights: Weights | None = None) -> tuple[float, float, float]:
        """Precision, recall and F1 of the predictions that reach the threshold; nan where there is no truth."""
        reach = int(np.searchsorted(self._rising, -threshold, side="right"))
        own = np.ones(reach) if weights is None else weights[self.clusters[:reach]]
        found, kept, total = float(own @ self.hits[:reach]), float(own.sum()), self._total(weights)
        if not total:
            return float("nan"), float("nan"), float("nan")
        return (found / kept if kept else 0.0), found / total, 2 * found / (kept + total)

    def sensitivities(
        self, weights: Weights | None = None, rates: Sequence[float] = FALSE_POSITIVES
    ) -> NDArray[np.float64]:
        """FROC: (K,) sensitivity at (K,) false positives per image, on straight lines between thresholds, as LUNA16's.

        Where all predictions have fewer false positives, it is that of all. nan where there is no truth.
        """
        images, total = float(self.images.sum() if weights is None else weights @ self.images), self._total(weights)
        if not total:
            return np.full(len(rates), np.nan)
        found, kept = self._until(self._turns, weights)
        false = np.append(0.0, kept - found)
        return np.interp(np.array(rates) * images, false, np.append(0.0, found)) / total

    def operating_curve(self) -> OperatingCurve:
        """Precision, recall and F1 at every threshold, each cluster counted once."""
        scores, found, kept, total = self._distinct(None)
        return OperatingCurve(scores, found / kept, found / total, 2 * found / (kept + total), int(total))

    @cached_property
    def _rising(self) -> NDArray[np.float64]:
        return -self.scores

    @cached_property
    def _true(self) -> NDArray[np.intp]:
        """The places of true positives."""
        return np.flatnonzero(self.hits)

    @cached_property
    def _turns(self) -> NDArray[np.intp]:
        """The ends of FROC's straight lines: last places of a score that has a true positive, or the next one has."""
        ends = np.flatnonzero(np.append(np.diff(self.scores) != 0, True)[: len(self.scores)])
        rises = np.diff(self._found[ends], prepend=0) > 0
        return ends[rises | np.append(rises[1:], True)[: len(ends)]]

    @cached_property
    def _found(self) -> NDArray[np.int64]:
        """(N,) true positives up to each prediction and with it."""
        return np.cumsum(self.hits)

    def _until(self, places: NDArray[np.intp], weights: Weights | None) -> tuple[NDArray, NDArray]:
        """True positives and predictions up to each place and with it; places rise."""
        if weights is None or not len(places):
            return self._found[places], places + 1
        own = weights[self.clusters[: places[-1] + 1]]
        found = np.cumsum(own[self._true[: self._found[places[-1]]]])
        return np.append(0.0, found)[self._found[places]], np.cumsum(own)[places]

    def _counts(self, weights: Weights | None) -> tuple[NDArray, NDArray, float]:
        """(N,) true positives and (N,) predictions up to each one, and the number of truths."""
        if weights is None:
            return self._found, np.arange(1, len(self.hits) + 1), self._total(None)
        own = weights[self.clusters]
        return np.cumsum(own * self.hits), np.cumsum(own), self._total(weights)

    def _distinct(self, weights: Weights | None) -> tuple[NDArray[np.float64], NDArray, NDArray, float]:
        """Each score that is counted, once, with the counts by then: equal scores pass a threshold together."""
        found, kept, total = self._counts(weights)
        last = (kept > 0) & np.append(np.diff(self.scores) != 0, True)[: len(self.scores)]
        return self.scores[last], found[last], kept[last], total

    def _total(self, weights: Weights | None) -> float:
        return float(self.truths.sum() if weights is None else weights @ self.truths)


@dataclass(frozen=True)
class Operating:
    """Precision, recall and F1 of all predictions with a score of at least ``threshold``."""

    threshold: float
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class OperatingCurve:
    """Precision and recall as the confidence threshold falls.

    ``scores``, ``precision``, ``recall`` and ``f1`` are (K,) float64, one entry per distinct score,
    highest score first. ``truths`` is the number of ground-truth boxes.
    """

    scores: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    truths: int

    def on(self, thresholds: NDArray) -> NDArray[np.float64]:
        """Precision, recall and F1 (3, T) at (T,) thresholds; 0 where nothing is predicted."""
        predicted = np.searchsorted(-self.scores, -np.asarray(thresholds), side="right")
        points = np.stack([np.append(0.0, values) for values in (self.precision, self.recall, self.f1)])
        return points[:, predicted]

    def at(self, threshold: float) -> Operating:
        """The point at a threshold; precision is 0 where nothing is predicted."""
        precision, recall, f1 = self.on(np.array([threshold]))[:, 0].tolist()
        return Operating(threshold, precision, recall, f1)

    def best_f1(self) -> Operating:
        """The point of the greatest F1, the highest threshold among equals; 1 where nothing is found."""
        if not len(self.f1) or not self.f1.max():
            return Operating(1.0, 0.0, 0.0, 0.0)
        return self.at(float(self.scores[int(self.f1.argmax())]))


def mean_curve(curves: Sequence[OperatingCurve]) -> OperatingCurve:
    """The mean of several classes' curves at every threshold at which one of them changes."""
    if len(curves) == 1:
        return curves[0]
    scores = np.unique(np.concatenate([curve.scores for curve in curves]))[::-1]
    precision, recall, f1 = np.mean([curve.on(scores) for curve in curves], axis=0)
    return OperatingCurve(scores, precision, recall, f1, sum(curve.truths for curve in curves))


def _envelope(precision: NDArray[np.float64]) -> NDArray[np.float64]:
    """The greatest precision at this recall or a higher one."""
    return np.maximum.accumulate(precision[::-1])[::-1]
