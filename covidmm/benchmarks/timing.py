"""Two ways of doing the same, timed in turn in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

#: What is timed of a model.
STAGES = ("inference", "train step")

Step = Callable[[], Any]


class Taken(NamedTuple):
    """Median seconds of two steps, and the median of what the one took of the other in the same turn."""

    seconds: float
    reference_seconds: float
    ratio: float


def time_in_turn(ours: Step, reference: Step, repeats: int, cuda: bool = False) -> Taken:
    """Time two steps that take turns, so that a busy moment of the machine meets both.

    Args:
        ours: the one.
        reference: the other.
        repeats: timed runs of each, after one that warms up.
        cuda: wait for the GPU before the clock is read.
    """
    import torch

    taken: dict[Step, list[float]] = {ours: [], reference: []}
    for turn in range(repeats + 1):
        for step, times in taken.items():
            start = time.perf_counter()
            step()
            if cuda:
                torch.cuda.synchronize()
            if turn:
                times.append(time.perf_counter() - start)
    pairs = list(zip(taken[ours], taken[reference], strict=True))
    return Taken(*map(statistics.median, zip(*pairs, strict=True)), statistics.median(a / b for a, b in pairs))
