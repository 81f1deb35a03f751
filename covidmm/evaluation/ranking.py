"""Average precision that can be taken again and again over resampled studies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: COCOeval's recalls.
_RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class Ranking:
    """All predictions of one class by falling score, each a true or a false positive whatever else is sampled.

    Attributes:
        scores: (N,) falling.
        hits: (N,) true positives.
        clusters: (N,) the study of each.
        truths: (S,) true boxes of each study.
        group_ties: equal scores pass a threshold together; COCOeval lets them pass one by one.
    """

    scores: NDArray[np.float64]
    hits: NDArray[np.bool_]
    clusters: NDArray[np.int64]
    truths: NDArray[np.int64]
    group_ties: bool = True

    @classmethod
    def of(
        cls,
        scores: Sequence[NDArray],
        hits: Sequence[NDArray],
        truths: Sequence[int],
        clusters: Sequence[int],
        count: int,
        group_ties: bool = True,
    ) -> Ranking:
        """Pool the predictions of images.

        Args:
            scores: per image, (N,).
            hits: per image, (N,).
            truths: per image, the number of its true boxes.
            clusters: per image, its study in 0..count - 1.
            count: number of studies.
            group_ties: whether equal scores pass a threshold together.
        """
        pooled = np.concatenate([np.zeros(0), *scores]).astype(np.float64)
        order = np.argsort(-pooled, kind="stable")
        owners = np.repeat(np.asarray(clusters, np.int64), [len(one) for one in scores])
        return cls(
            pooled[order],
            np.concatenate([np.zeros(0, bool), *hits])[order],
            owners[order],
            np.bincount(np.asarray(clusters, np.int64), weights=truths, minlength=count).astype(np.int64),
            group_ties,
        )

    def curve(self, weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Precision and recall at each distinct score, study s counted ``weights[s]`` times; nan without truth."""
        own = weights[self.clusters]
        found, kept = np.cumsum(own * self.hits), np.cumsum(own)
        last = kept > 0
        if self.group_ties:
            last &= np.append(np.diff(self.scores) != 0, True)[: len(self.scores)]
        total = float(weights @ self.truths)
        recall = found[last] / total if total else np.full(int(last.sum()), np.nan)
        return found[last] / kept[last], recall

    def voc_ap(self, weights: NDArray[np.float64]) -> float:
        """Area under the precision envelope (PASCAL VOC 2010), nan where there is no truth."""
        precision, recall = self.curve(weights)
        if not weights @ self.truths:
            return float("nan")
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        return float((np.diff(recall, prepend=0.0) * envelope).sum())

    def coco_ap(self, weights: NDArray[np.float64]) -> float:
        """Mean of the envelope at COCOeval's 101 recalls, nan where there is no truth.

        COCOeval's own number where hits are :func:`~covidmm.evaluation.coco_eval.coco_matches` and ties not grouped.
        """
        precision, recall = self.curve(weights)
        if not weights @ self.truths:
            return float("nan")
        envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
        return float(envelope[np.searchsorted(recall, _RECALLS)].mean())

    def at(self, threshold: float, weights: NDArray[np.float64]) -> tuple[float, float, float]:
        """Precision, recall and F1 of the predictions that reach the threshold."""
        own = weights[self.clusters] * (self.scores >= threshold)
        found, kept, total = float(own @ self.hits), float(own.sum()), float(weights @ self.truths)
        if not total:
            return float("nan"), float("nan"), float("nan")
        return (found / kept if kept else 0.0), found / total, 2 * found / (kept + total)


def detection_statistic(
    ranking: Ranking, coco: Ranking, threshold: float
) -> Callable[[NDArray[np.float64]], Mapping[str, float]]:
    """mAP@.50, precision, recall and F1 as a function of how often each study counts.

    Args:
        ranking: hits by :func:`covidmm.evaluation.detection.match`.
        coco: the same predictions with hits by :func:`covidmm.evaluation.coco_eval.coco_matches`.
        threshold: the confidence at which precision, recall and F1 are taken.
    """

    def statistic(weights: NDArray[np.float64]) -> dict[str, float]:
        precision, recall, f1 = ranking.at(threshold, weights)
        return {"mAP_50": coco.coco_ap(weights), "f1": f1, "recall": recall, "precision": precision}

    return statistic
