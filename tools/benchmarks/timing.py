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
    """Time two steps that take turns, each the first in every other one, so that a busy moment meets both.

    Args:
        ours: the one.
        reference: the other.
        repeats: timed runs of each, after one that warms up; where both take longer than :data:`LONG`, that one counts.
        cuda: wait for the GPU before the clock is read.
    """
    steps, pairs = (ours, reference), []
    turns = 0
    while len(pairs) < repeats:
        order = (0, 1) if turns % 2 else (1, 0)
        taken = {place: _seconds(steps[place], cuda) for place in order}
        if turns or min(taken.values()) > LONG:
            pairs.append((taken[0], taken[1]))
        turns += 1
    return Taken(*map(statistics.median, zip(*pairs, strict=True)), statistics.median(a / b for a, b in pairs))


def _seconds(step: Step, cuda: bool) -> float:
    start = time.perf_counter()
    step()
    if cuda:
        import torch  # not for those who measure no network

        torch.cuda.synchronize()
    return time.perf_counter() - start
