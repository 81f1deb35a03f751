"""A pytest plugin: the processor time of each test file, printed at the end of a run.

Seconds of the clock say more about what else the machine does. A process that a test starts counts when it has ended.
"""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

#: So many of the dearest files are listed.
LISTED = 12


def used() -> float:
    """Processor seconds of this process and of its children that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


class ProcessorTime:
    """Measures in every process that runs tests; the one that prints the summary adds up."""

    def __init__(self) -> None:
        self._before = used()
        self._by_file: Counter[str] = Counter()

    @pytest.hookimpl(wrapper=True)
    def pytest_collection(self) -> Iterator[None]:
        """What was used up to here belongs to no test."""
        result = yield
        self._before = used()
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Iterator[None]:
        """Write into a report what was used since the one before it."""
        report = yield
        self._before, since = used(), self._before
        report.processor_seconds = self._before - since
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add up."""
        self._by_file[report.nodeid.partition("::")[0]] += getattr(report, "processor_seconds", 0.0)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print the dearest files."""
        if len(self._by_file) > 1:
            total = self._by_file.total()
            terminalreporter.section(f"{total:.0f} s of processor time")
            for file, seconds in self._by_file.most_common(LISTED):
                terminalreporter.line(f"{seconds:7.1f} s  {file}")


def pytest_configure(config: pytest.Config) -> None:
    """Register it."""
    config.pluginmanager.register(ProcessorTime(), "processor time")
