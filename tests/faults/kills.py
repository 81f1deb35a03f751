"""Kills a tool at many moments, runs it again, and compares with a run that nothing disturbed."""

from __future__ import annotations

import random
import shutil
import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.runs import Nursery
from tests.faults.workloads import Workload

# A run may be faster than the undisturbed one was: the share of its seconds after which it may be over.
_LATEST = 0.9


@dataclass(frozen=True)
class Moment:
    """When a tool is killed.

    Attributes:
        kind: ``time``, a share of its seconds; ``event``, a share of the changes of files that it makes, right before
            one of them; ``write``, a share of its largest file, when it has written so much of a file.
        share: 0 to 1.
    """

    kind: str
    share: float

    def __str__(self) -> str:
        return f"{self.kind} {self.share:.4f}"


@dataclass(frozen=True)
class Outcome:
    """What came of one kill.

    Attributes:
        tool: which was killed.
        moment: when.
        killed: whether it was still running.
        problem: what is wrong: a half-written file among the results, a second run that failed or that ended with
            other results. Empty as a rule.
    """

    tool: str
    moment: Moment
    killed: bool
    problem: str

    @property
    def recovered(self) -> bool:
        """Whether the second run ended as an undisturbed one."""
        return not self.problem


@dataclass(frozen=True)
class Undisturbed:
    """A run in peace: how long it took, how often it changed files, its largest file, and its results."""

    seconds: float
    events: int
    largest: int
    results: dict[str, str]
    earlier: dict[str, str]
    """Results that a whole run removes again, such as the first epoch's checkpoint."""


class Killer:
    """Kills one tool.

    Args:
        workload: the job.
        nursery: starts it.
        folder: for its outputs, one after the other.
    """

    def __init__(self, workload: Workload, nursery: Nursery, folder: Path) -> None:
        self.workload, self._nursery, self._folder = workload, nursery, folder
        self.undisturbed = self._run_in_peace()

    def kill_and_recover(self, moments: Iterable[Moment]) -> list[Outcome]:
        """Kill the tool at each moment, look at what it left, and run it again."""
        return [self._one(moment) for moment in moments]

    def _one(self, moment: Moment) -> Outcome:
        out = self._fresh("killed")
        ended = self._nursery.run(self.workload.command(out), **self._fault(moment, out))
        killed = ended.code in (-signal.SIGKILL, -signal.SIGXFSZ)
        if not killed and ended.code:
            return Outcome(self.workload.name, moment, False, f"ended with {ended.code}: {ended.last_line}")
        return Outcome(self.workload.name, moment, killed, self._half_written(out) or self._recover(out))

    def _fault(self, moment: Moment, out: Path) -> dict[str, Any]:
        calm = self.undisturbed
        if moment.kind == "time":
            return {"after": moment.share * _LATEST * calm.seconds, "signal": signal.SIGKILL}
        if moment.kind == "event":
            return {"folder": str(out), "event": 1 + int(moment.share * calm.events), "signal": signal.SIGKILL}
        return {"write_limit": max(1, int(moment.share * calm.largest)), "write_kills": True}

    def _half_written(self, out: Path) -> str:
        """Which result is neither there as a whole nor absent, nothing as a rule."""
        try:
            found = self.workload.results(out)
        except Exception as error:
            return f"a result cannot be read after the kill: {error!r}"
        calm = self.undisturbed
        for name, content in found.items():
            if name not in self.workload.grows and content != (calm.results | calm.earlier).get(name):
                return f"{name} is not whole after the kill"
        return ""

    def _recover(self, out: Path) -> str:
        ended = self._nursery.run(self.workload.again(out))
        if ended.code:
            return f"the next run ended with {ended.code}: {ended.last_line}"
        found, expected = self.workload.results(out), self.undisturbed.results
        wrong = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
        left = sorted(path.name for path in out.rglob("*.tmp")) if out.is_dir() else []
        return f"after the next run differ: {', '.join(wrong)}" if wrong else f"left behind: {left}" if left else ""

    def _run_in_peace(self) -> Undisturbed:
        out = self._fresh("undisturbed")
        ended = self._nursery.run(self.workload.command(out), folder=str(out))
        assert ended.code == 0, ended.output[-4000:]
        results = self.workload.results(out)
        largest = max(path.stat().st_size for path in out.rglob("*") if path.is_file())
        earlier = {}
        if self.workload.keep_all is not None:
            kept = self._fresh("kept")
            ended = self._nursery.run(self.workload.keep_all(kept))
            assert ended.code == 0, ended.output[-4000:]
            earlier = self.workload.results(kept)
            assert results.items() <= earlier.items(), "two undisturbed runs differ"
        return Undisturbed(ended.seconds, len(ended.events), largest, results, earlier)

    def _fresh(self, name: str) -> Path:
        out = self._folder / f"{self.workload.name}_{name}"
        shutil.rmtree(out, ignore_errors=True)
        return out


def draw(count: int, seed: int) -> list[Moment]:
    """Draw moments: a third each by the clock, at changes of files, and in the middle of writes."""
    generator = random.Random(seed)
    kinds: Sequence[str] = ("time", "event", "write")
    return [Moment(kinds[number % len(kinds)], generator.random()) for number in range(count)]
