"""One member alone, to compare the others with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from covidmm.ensembles.pooled_boxes import NormBoxes, PooledStrategy
from covidmm.errors import ConfigError


class BestSingle(PooledStrategy):
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

    def require_members(self, names: Sequence[str]) -> None:
        """Refuse an ensemble without this member, before anything is predicted.

        Raises:
            ConfigError: there is no such member.
        """
        if self.member is not None and self.member >= len(names):
            raise ConfigError(f"best_single: there is no member {self.member}, the last one is {len(names) - 1}")

    def fuse_pool(self, pool: NormBoxes, weights: NDArray[np.float64]) -> NormBoxes:
        """The boxes of the one member, the highest score first.

        Raises:
            ConfigError: there is no such member.
        """
        chosen = int(np.argmax(weights)) if self.member is None else self.member
        if chosen >= len(weights):
            raise ConfigError(f"best_single: there is no member {chosen}, the last one is {len(weights) - 1}")
        return pool.take(pool.members == chosen).best_first()
