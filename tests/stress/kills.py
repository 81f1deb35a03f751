"""The long form: fifty kills of every tool, and more faults of the other kinds. Prints a table.

python -m tests.stress.kills [--kills 50] [--others 4] [--processes 2] [--seed 0] [--tools train ...]
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue

from tests.faults.trials import KILLS, KILLS_OF_PREPARE, REFUSALS, STOPS, Outcome, draw, kill_and_recover
from tests.faults.workloads import Bench
from tests.helpers.tool_runs import ForkServer

TOOLS = ("train", "ensemble", "report", "test", "prepare")  # the slowest first, so that all processes end together
#: Kills inside a write come by another signal than SIGKILL, so they are counted apart.
SIGKILLS = KILLS[:2]
_GROUPS = {"SIGKILL": SIGKILLS, "killed in a write": KILLS[2:], "disk refuses": REFUSALS, "SIGINT, SIGTERM": STOPS}
_AT_ONCE = 5

Work = Queue[tuple[str, tuple[str, ...], int]]


@dataclass(frozen=True)
class Row:
    """A tool's line of the table: faults tried, and those after which the next run ended as an undisturbed one."""

    tool: str
    tried: Counter[str]
    recovered: Counter[str]

    def __str__(self) -> str:
        cells = (f"{self.recovered[group]} of {self.tried[group]}" for group in _GROUPS)
        return f"| {self.tool} | " + " | ".join(cells) + " |"


def run_long(
    kills: int = 50, others: int = 4, processes: int = 2, seed: int = 0, tools: Sequence[str] = TOOLS
) -> tuple[list[Row], list[Outcome]]:
    """Kill every tool ``kills`` times with SIGKILL, and put ``others`` faults of every other kind into it.

    Returns:
        A row for every tool, and what went wrong, nothing as a rule.
    """
    work: Work = Queue()
    numbers = itertools.count(seed * 10_000)
    for tool in tools:
        in_writes = [kind for kind in (KILLS_OF_PREPARE if tool == "prepare" else KILLS) if kind not in SIGKILLS]
        kinds = [*itertools.islice(itertools.cycle(SIGKILLS), kills), *(*in_writes, *REFUSALS, *STOPS) * others]
        for first in range(0, len(kinds), _AT_ONCE):
            work.put((tool, tuple(kinds[first : first + _AT_ONCE]), next(numbers)))
    with tempfile.TemporaryDirectory(prefix="faults") as folder, ThreadPoolExecutor(processes) as pool:
        folders = [Path(folder, str(number)) for number in range(processes)]
        benches = [Bench(one, ForkServer(one / "logs")) for one in folders]
        try:
            parts = [pool.submit(lambda bench=bench: list(_work_off(work, bench))) for bench in benches]
            outcomes = [outcome for part in parts for outcome in part.result()]
        finally:
            for bench in benches:
                bench.server.close()
    return [_row(tool, outcomes) for tool in tools], [one for one in outcomes if one.problem]


def _work_off(work: Work, bench: Bench) -> Iterator[Outcome]:
    while True:
        try:
            tool, kinds, seed = work.get_nowait()
        except Empty:
            return
        for outcome in kill_and_recover(bench, tool, draw(kinds, seed), bench.folder / "trial"):
            print(outcome, file=sys.stderr, flush=True)
            yield outcome


def _row(tool: str, outcomes: Sequence[Outcome]) -> Row:
    group_of = {kind: group for group, kinds in _GROUPS.items() for kind in kinds}
    tried = [one for one in outcomes if one.tool == tool and (one.hit or one.problem)]
    recovered = Counter(group_of[one.fault.kind] for one in tried if not one.problem)
    return Row(tool, Counter(group_of[one.fault.kind] for one in tried), recovered)


def main() -> int:
    """Print the table; the exit code is 1 where a tool did not recover."""
    parser = argparse.ArgumentParser(description="Put many faults into every tool.")
    parser.add_argument("--kills", type=int, default=50, help="with SIGKILL, of every tool (%(default)s)")
    parser.add_argument("--others", type=int, default=4, help="of every other kind (%(default)s)")
    parser.add_argument("--processes", type=int, default=2, help="at once (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments (%(default)s)")
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=TOOLS, help="(all)")
    started = time.monotonic()
    rows, problems = run_long(**vars(parser.parse_args()))
    print("| tool | " + " | ".join(_GROUPS) + " |\n|" + "---|" * (1 + len(_GROUPS)))
    print(*rows, sep="\n")
    print(f"recovered identically, of those tried; {time.monotonic() - started:.0f} s")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
