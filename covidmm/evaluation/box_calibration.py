"""Whether boxes of a score are right as often as the score says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covidmm.evaluation.classification import confidence_bins, reliability
from covidmm.evaluation.ranking import Ranking, Weights

#: Of equal width.
BINS = 10


@dataclass(frozen=True)
class BoxCalibration:
    """Score and precision of the boxes of one class, bin by bin: D-ECE without position.

    Kueppers et al., Multivariate Confidence Calibration for Object Detection, CVPR Workshops 2020.

    Attributes:
        ranking: the boxes.
        bins: of equal width.
    """

    ranking: Ranking
    bins: int = BINS

    @property
    def rows(self) -> Sequence[Mapping[str, Any]]:
        """Of each bin that holds a box ``count``, mean ``confidence``, and ``accuracy``, the share that is right."""
        return reliability(self.ranking.scores, self.ranking.hits, self.bins)["bins"] if self._count.any() else []

    def ece(self, weights: Weights | None = None) -> float:
        """The mean distance of score and precision over all boxes; nan where there is none.

        Args:
            weights: (S,) how often each cluster of the ranking counts; None for once.
        """
        times = np.ones(len(self._count)) if weights is None else weights
        boxes = float(times @ self._count)
        return float(np.abs(self._surplus @ times).sum()) / boxes if boxes else float("nan")

    @cached_property
    def _count(self) -> NDArray[np.int64]:
        """(S,) boxes of each cluster."""
        return np.bincount(self.ranking.clusters, minlength=len(self.ranking.truths))

    @cached_property
    def _surplus(self) -> NDArray[np.float64]:
        """(bins, S) by how much scores are more than true positives."""
        table = np.zeros((self.bins, len(self._count)))
        place = confidence_bins(self.ranking.scores, self.bins), self.ranking.clusters
        np.add.at(table, place, self.ranking.scores - self.ranking.hits)
        return table
