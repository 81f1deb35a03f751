"""Intervals by resampling studies: images of one study stand or fall together, so they are drawn together.

``scipy.stats.bootstrap`` draws single observations and calls the statistic on the raw data each time; here the
matching of boxes, which does not depend on the draw, is done once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

#: Draws and level are chosen here. Of a normal statistic 1,000 give the ends of a 95 % interval a standard error of 2 %
#: of its width: sqrt(0.025 * 0.975 / 1000) / density(1.96) / (2 * 1.96).
RESAMPLES = 1000
LEVEL = 0.95


def intervals(
    statistic: Callable[[NDArray[np.float64]], Mapping[str, float]],
    clusters: int,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Percentile intervals (Efron and Tibshirani, 1993, section 13.3) of everything that a statistic computes.

    Args:
        statistic: from (S,) how often each study is counted to values by name; nan where one is undefined.
        clusters: the number of studies S.
        resamples: draws of S studies with replacement.
        seed: of the draws.

    Returns:
        Low and high end at :data:`LEVEL` by name; draws that leave a value undefined do not count for it, and one that
        is never defined is left out.
    """
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {}
    for _ in range(resamples):
        weights = np.bincount(rng.integers(0, clusters, clusters), minlength=clusters).astype(np.float64)
        for name, value in statistic(weights).items():
            if not np.isnan(value):
                drawn.setdefault(name, []).append(value)
    ends = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    return {name: tuple(np.quantile(values, ends).tolist()) for name, values in drawn.items()}
