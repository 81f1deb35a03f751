"""Puts a fault into a tool's run, runs the tool again, and compares with a run that nothing disturbed."""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.faults.workloads import Bench
from tests.helpers.tool_runs import Ended

#: How a process is killed: by the clock; right before it makes, renames or removes a file; inside a write.
KILLS = ("kill at a time", "kill at a change", "kill in a write")
#: A write in a worker of prepare is none of the process that is killed: there Python makes an error of the signal.
KILLS_OF_PREPARE = KILLS[:2]
#: What the operating system may refuse: a disk that is full, one that is broken, a file that grows too large.
REFUSALS = ("full disk", "broken disk", "file too large")
#: How a person or a scheduler stops a process.
STOPS = ("SIGINT", "SIGTERM")
_CLOCKED = ("kill at a time", *STOPS)
_MESSAGES = {"full disk": errno.ENOSPC, "broken disk": errno.EIO, "file too large": errno.EFBIG}
# A run may be faster than the undisturbed one was: the share of its seconds after which it may be over.
_LATEST = 0.9
_PAGE = 4096


@dataclass(frozen=True)
class Fault:
    """What goes wrong, and when.

    Attributes:
        kind: one of ``KILLS``, ``REFUSALS`` or ``STOPS``.
        share: 0 to 1, of the seconds, the changes, the largest file or all the bytes of an undisturbed run.
    """

    kind: str
    share: float

    def __str__(self) -> str:
        return f"{self.kind} {self.share:.4f}"


@dataclass(frozen=True)
class Outcome:
    """What came of one fault.

    Attributes:
        tool: into whose run it was put.
        fault: which.
        hit: whether the run was not over before.
        problem: what is wrong, nothing as a rule: an end without a clear line, a half-written file among the
            results, a second run that failed or that ended with other results.
        said: the last line of the disturbed run.
    """

    tool: str
    fault: Fault
    hit: bool
    problem: str
    said: str

    def __str__(self) -> str:
        return f"{self.tool}, {self.fault}: {self.problem or 'recovered' if self.hit else 'was over before'}"


def kill_and_recover(bench: Bench, tool: str, faults: Iterable[Fault], folder: Path) -> list[Outcome]:
    """Put each fault into a run of its own, look at what is left, and run the tool again.

    Where a run was over before a moment of the clock, as on a machine that others use less than before, the share is
    halved until the fault hits.

    Args:
        bench: the tools' jobs.
        tool: whose.
        faults: which.
        folder: for outputs; emptied.

    Returns:
        An outcome for each fault.
    """
    return [_hit(bench, tool, fault, folder) for fault in faults]


def _hit(bench: Bench, tool: str, fault: Fault, folder: Path) -> Outcome:
    outcome = _Trial(bench, tool, fault, folder).outcome()
    if outcome.hit or outcome.problem or fault.kind not in _CLOCKED:
        return outcome
    return _hit(bench, tool, replace(fault, share=fault.share / 2), folder)


def draw(kinds: Iterable[str], seed: int) -> list[Fault]:
    """A fault of each kind, at a moment drawn at random."""
    generator = random.Random(seed)
    return [Fault(kind, generator.random()) for kind in kinds]


class _Trial:
    def __init__(self, bench: Bench, tool: str, fault: Fault, folder: Path) -> None:
        self.tool, self.fault, self._folder = tool, fault, folder
        self._bench = bench
        self._workload, self._calm = bench.workloads[tool], bench.undisturbed[tool]

    def outcome(self) -> Outcome:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        if self.fault.kind != "full disk":
            return self._try(self._folder / "out")
        size = max(_PAGE, int(self.fault.share * self._calm.bytes))
        with small_disk(self._folder, size) as disk:
            return self._try(disk / "out")

    def _try(self, out: Path) -> Outcome:
        ended = self._bench.run(self._workload.command(out), **self._request(out))
        hit, problem = self._judge(ended)
        if not problem:
            problem = self._half_written(out)
        if self.fault.kind == "full disk":
            subprocess.run(["mount", "-o", "remount,size=1g", str(out.parent)], check=True)
        return Outcome(self.tool, self.fault, hit, problem or self._recover(out), ended.last_line)

    def _request(self, out: Path) -> dict[str, Any]:
        """The fault as the fork server understands it."""
        kind, share, calm = self.fault.kind, self.fault.share, self._calm
        event = 1 + int(share * calm.events)
        if kind == "full disk":
            return {}
        if kind == "kill at a change":
            return {"folder": str(out), "event": event, "signal": signal.SIGKILL}
        if kind == "broken disk":
            return {"folder": str(out), "event": event, "errno": errno.EIO, "lasting": True}
        if kind in ("kill in a write", "file too large"):
            return {"write_limit": max(1, int(share * calm.largest)), "write_kills": kind != "file too large"}
        number = signal.Signals[kind] if kind in STOPS else signal.SIGKILL
        # ctrl-C reaches the whole group, a scheduler's signal the process
        return {"after": share * _LATEST * calm.seconds, "signal": number, "group": kind == "SIGINT"}

    def _judge(self, ended: Ended) -> tuple[bool, str]:
        """Whether the fault hit the run, and what is wrong with how it ended."""
        kind = self.fault.kind
        if ended.over:
            return False, ""
        if kind in KILLS:
            killed = ended.code in (-signal.SIGKILL, -signal.SIGXFSZ)
            return killed, "" if killed else f"ended with {ended.code}: {ended.last_line}"
        if kind in STOPS and ended.code == -signal.Signals[kind] and not ended.output.strip():
            return True, ""  # before the tool could take the signal, and did anything
        # an object half built when the signal came, as PyTorch's loader is, may fail to take itself down
        if ended.output.count("Traceback") > ended.output.count("Exception ignored in"):
            return True, f"ended with a traceback: {ended.last_line}"
        if kind in STOPS:
            expected = 128 + signal.Signals[kind]
            told = re.search(r"^stopped; .*the same command", ended.output, re.MULTILINE)
            good = ended.code == expected and told
            return True, "" if good else f"ended with {ended.code}, not {expected}: {ended.last_line}"
        errors = [line for line in ended.output.splitlines() if line.startswith("error: ")]
        good = ended.code == 1 and len(errors) == 1 and errors[0].endswith(os.strerror(_MESSAGES[kind]))
        return True, "" if good else f"ended with {ended.code} and {len(errors)} lines of error: {ended.last_line}"

    def _half_written(self, out: Path) -> str:
        """Which result is neither there as a whole nor absent, nothing as a rule."""
        try:
            found = self._workload.results(out)
        except Exception as error:
            return f"a result cannot be read afterwards: {error!r}"
        for name, content in found.items():
            if name not in self._workload.grows and content not in self._calm.versions.get(name, ()):
                return f"{name} is not whole"
        return ""

    def _recover(self, out: Path) -> str:
        ended = self._bench.run(self._workload.again(out))
        if ended.code:
            return f"the next run ended with {ended.code}: {ended.last_line}"
        found, expected = self._workload.results(out), self._calm.results
        wrong = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
        left = sorted(path.name for path in out.rglob("*.tmp"))
        return f"after the next run differ: {', '.join(wrong)}" if wrong else f"left behind: {left}" if left else ""


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A file system of its own with so many bytes.

    Raises:
        PermissionError: this process may not mount one.
    """
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        raise PermissionError(f"no small disk: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
