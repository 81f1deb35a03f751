"""One member alone, as the others' measure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from covidmm.ensembles.pooled_boxes import pooled, require_weights
from covidmm.errors import ConfigError
from covidmm.findings import Detections


class BestSingle:
    """The boxes of one member, clipped to the image, with its scores.

    Args:
        member: its place in the config's ``members``, from 0; None for the one with the greatest weight, the first
            among equals.

    Raises:
        ValueError: ``member`` is no place.
    """

    def __init__(self, member: int | None = None) -> None:
        if member is not None and (not isinstance(member, int) or isinstance(member, bool) or member < 0):
            raise ValueError(f"member must be a place in the list of members, from 0, not {member!r}")
        self.member = member

    def fuse(self, members: Sequence[Detections], weights: Sequence[float], size: tuple[int, int]) -> Detections:
        """The boxes of the one member, the highest score first.

        Raises:
            ConfigError: there is no such member, or weights that do not fit.
            DataError: a size that is none, a box with x2 < x1 or y2 < y1.
        """
        checked = require_weights(weights, len(members))
        chosen = int(np.argmax(checked)) if self.member is None else self.member
        if chosen >= len(members):
            raise ConfigError(f"best_single: there is no member {chosen}, the last one is {len(members) - 1}")
        pool = pooled(members, size)
        return pool.take(pool.members == chosen).best_first().detections(size)
