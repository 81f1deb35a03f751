"""Built-in ensemble strategies, by name."""

from __future__ import annotations

from collections.abc import Callable

from covidmm.plugins import hookimpl
from covidmm.plugins.hookspecs import EnsembleStrategy


@hookimpl
def covidmm_ensemble_strategies() -> dict[str, Callable[..., EnsembleStrategy]]:
    """``wbf``, ``nms``, ``soft_nms``, ``nmw``, ``best_single`` and ``learned``."""
    from covidmm.ensembles.learned import LearnedFusion
    from covidmm.ensembles.single import BestSingle
    from covidmm.ensembles.suppression import (
        NonMaximumSuppression,
        NonMaximumWeighted,
        SoftNonMaximumSuppression,
    )
    from covidmm.ensembles.wbf import WeightedBoxesFusion

    return {
        "wbf": WeightedBoxesFusion,
        "nms": NonMaximumSuppression,
        "soft_nms": SoftNonMaximumSuppression,
        "nmw": NonMaximumWeighted,
        "best_single": BestSingle,
        "learned": LearnedFusion,
    }
