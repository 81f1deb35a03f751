"""Two ways of doing the same, timed in turn in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

#: What is timed of a model.
STAGES = ("inference", "train step")
#: Seconds. What a step of so many does once for all, it has no need to do before the clock runs. Chosen here.
LONG = 2.0

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
        repeats: timed runs of each, after one that warms up; where both take longer than :data:`LONG`, that one counts.
        cuda: wait for the GPU before the clock is read.
    """
    pairs: list[tuple[float, float]] = []
    warm = False
    while len(pairs) < repeats:
        pair = _seconds(ours, cuda), _seconds(reference, cuda)
        if warm or min(pair) > LONG:
            pairs.append(pair)
        warm = True
    return Taken(*map(statistics.median, zip(*pairs, strict=True)), statistics.median(a / b for a, b in pairs))


def _seconds(step: Step, cuda: bool) -> float:
    import torch

    start = time.perf_counter()
    step()
    if cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start
