"""Starts tools through the nursery and tells how they ended."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
#: No run of a tiny workload takes a tenth of it.
TIMEOUT_SECONDS = 240


@dataclass(frozen=True)
class Command:
    """A tool, ``train.py`` for instance, and its arguments."""

    tool: str
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    Attributes:
        code: the exit code, the signal's number negated where one killed it.
        seconds: that it ran.
        output: what it printed, errors included.
        events: every change of a file that it began, where they were counted.
        over: whether its work was done and well, whatever befell the interpreter afterwards.
    """

    code: int
    seconds: float
    output: str
    events: tuple[str, ...] = ()
    over: bool = False

    @property
    def last_line(self) -> str:
        """The last line that it printed."""
        return (self.output.strip().splitlines() or [""])[-1]


class Nursery:
    """The other end of ``nursery.py``: one tool at a time.

    Args:
        folder: for logs.
        env: settings that every tool gets.
    """

    def __init__(self, folder: Path, **env: str) -> None:
        self.env = env
        self._folder = folder
        self._numbers = itertools.count(1)
        folder.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("nursery.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            text=True,
        )
        self._answer()

    def run(self, command: Command, **fault: Any) -> Ended:
        """Run a tool to its end.

        Args:
            command: the tool.
            **fault: what goes wrong, as ``nursery.py`` describes it; nothing as a rule.

        Raises:
            AssertionError: it left processes behind.
        """
        number = next(self._numbers)
        log, events, over = (self._folder / f"{number:04d}.{kind}" for kind in ("log", "events", "over"))
        log.touch()  # a kill may come before the tool opens it
        request = {
            "tool": command.tool,
            "arguments": command.arguments,
            "cwd": str(ROOT),
            "env": self.env,
            "log": str(log),
            "events": str(events),
            "over": str(over),
            "timeout": TIMEOUT_SECONDS,
            **fault,
        }
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        wait_until_alone(answer["pid"])
        seen = tuple(events.read_text().splitlines()) if events.exists() else ()
        done = over.exists() and over.read_text() == "0"
        return Ended(answer["code"], answer["seconds"], log.read_text(errors="replace"), seen, done)

    def close(self) -> None:
        """End it."""
        self._process.stdin.close()
        self._process.wait(TIMEOUT_SECONDS)
        self._process.stdout.close()

    def _answer(self) -> Any:
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the nursery ended with {self._process.wait()}")
        return json.loads(line)


def wait_until_alone(session: int, seconds: float = 20) -> None:
    """Wait until no process of a session is left: workers must follow a tool that was killed.

    Raises:
        AssertionError: one is.
    """
    end = time.monotonic() + seconds
    while left := processes_of(session):
        assert time.monotonic() < end, f"processes {left} outlive their tool"
        time.sleep(0.01)


def processes_of(session: int) -> list[str]:
    """Ids of the processes of a session that are neither gone nor zombies."""
    alive = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            alive.append(folder.name)
    return alive
