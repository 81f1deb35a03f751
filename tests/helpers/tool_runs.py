"""Starts tools through the fork server and returns how they ended."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
#: No run of a tiny workload takes a tenth of it.
TIMEOUT_SECONDS = 400


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


@dataclass(frozen=True)
class Running:
    """A tool that was started: its process, which leads a session, and the file that holds what it prints."""

    pid: int
    log: Path

    def wait_for(self, pattern: str) -> None:
        """Wait for a line that matches; a test that waits for ever ends by its time."""
        while True:
            alive = Path(f"/proc/{self.pid}").exists()
            output = self.log.read_text(errors="replace")
            if re.search(pattern, output, re.MULTILINE):
                return
            assert alive, f"no line matches {pattern}: {output[-4000:]}"
            time.sleep(0.02)

    def send(self, number: signal.Signals, group: bool = False) -> None:
        """Send it a signal, or its whole group."""
        (os.killpg if group else os.kill)(self.pid, number)


class ForkServer:
    """The other end of ``fork_server.py``.

    Args:
        folder: for logs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._numbers = itertools.count(1)
        self._ends: dict[int, dict[str, Any]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("fork_server.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            text=True,
        )
        self._answer()

    def run(self, command: Command, **more: Any) -> Ended:
        """Run a tool to its end: :meth:`start` and :meth:`wait`."""
        return self.wait(self.start(command, **more))

    def start(self, command: Command, **more: Any) -> Running:
        """Start a tool.

        Args:
            command: the tool.
            **more: ``cwd``, ``env`` (in addition), and what goes wrong, as ``fork_server.py`` describes it.
        """
        number = next(self._numbers)
        log, events, over = (self.folder / f"{number:04d}.{kind}" for kind in ("log", "events", "over"))
        log.touch()  # a kill may come before the tool opens it
        request = {
            "tool": command.tool,
            "arguments": command.arguments,
            "cwd": str(ROOT),
            "env": {**os.environ, "OMP_NUM_THREADS": "1", **more.pop("env", {})},
            "log": str(log),
            "events": str(events),
            "over": str(over),
            "timeout": TIMEOUT_SECONDS,
            **more,
        }
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return Running(self._answer("started")["started"], log)

    def wait(self, tool: Running) -> Ended:
        """Wait for the end of a tool.

        Raises:
            AssertionError: it left processes behind.
        """
        while tool.pid not in self._ends:
            self._answer("ended")
        answer = self._ends.pop(tool.pid)
        wait_until_alone(tool.pid)
        events, over = (tool.log.with_suffix(f".{kind}") for kind in ("events", "over"))
        seen = tuple(events.read_text().splitlines()) if events.exists() else ()
        done = over.exists() and over.read_text() == "0"
        return Ended(answer["code"], answer["seconds"], tool.log.read_text(errors="replace"), seen, done)

    def close(self) -> None:
        """End it."""
        self._process.stdin.close()
        self._process.wait(TIMEOUT_SECONDS)
        self._process.stdout.close()

    def _answer(self, kind: str = "") -> Any:
        """The next answer of a kind; ends that come before it are kept."""
        while line := self._process.stdout.readline():
            answer = json.loads(line)
            if "ended" in answer:
                self._ends[answer["ended"]] = answer
            if kind in answer:
                return answer
        raise RuntimeError(f"the fork server ended with {self._process.wait()}")


@cache
def shared_server() -> ForkServer:
    """The one that all tests of this process share."""
    return ForkServer(Path(mkdtemp(prefix="tools")))


def close_shared_server() -> None:
    """End it, if it was started."""
    if shared_server.cache_info().currsize:
        shared_server().close()
        shutil.rmtree(shared_server().folder)
        shared_server.cache_clear()


def start_tool(tool: str, *arguments: object, **more: Any) -> Running:
    """Start ``tools/TOOL`` with arguments, see :meth:`ForkServer.start`."""
    return shared_server().start(Command(tool, tuple(map(str, arguments))), **more)


def run_tool(tool: str, *arguments: object, **more: Any) -> Ended:
    """Run ``tools/TOOL`` with arguments to its end."""
    return shared_server().wait(start_tool(tool, *arguments, **more))


def wait_until_alone(session: int, seconds: float = 120) -> None:
    """Wait until no process of a session is left: workers must follow a tool that was killed.

    Raises:
        AssertionError: one is.
    """
    end = time.monotonic() + seconds
    while left := processes_of(session):
        assert time.monotonic() < end, f"processes outlive their tool: {[_shown(one) for one in left]}"
        time.sleep(0.01)


def _shown(process: str) -> str:
    """Id, state and system call of a process, and its command."""
    folder, parts = Path("/proc") / process, [process]
    for name in ("stat", "wchan", "cmdline"):
        with suppress(OSError):
            text = (folder / name).read_text()
            parts.append(text.rpartition(")")[2].split()[0] if name == "stat" else text.replace("\0", " ")[:120])
    return " ".join(parts)


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
