"""A benchmark run and described: its figures, what they were measured with, and the table of both."""

from __future__ import annotations

import os
import platform
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import covidmm


def measure(subject: str, **options: Any) -> dict[str, Any]:
    """Run one benchmark.

    Args:
        subject: a module of this package with a function ``benchmark``, a function ``format_report``, and
            ``DISTRIBUTIONS``, whose versions its figures depend on.
        options: of its ``benchmark``.

    Returns:
        Its figures, with the subject first and the machine last; ready for JSON.
    """
    module = import_module(f"benchmarks.{subject}")
    return {"benchmark": subject, **module.benchmark(**options), "machine": machine(*module.DISTRIBUTIONS)}


def format_measured(report: dict[str, Any]) -> str:
    """The table of a report of :func:`measure`, for people, and a line that describes the machine."""
    table = import_module(f"benchmarks.{report['benchmark']}").format_report(report)
    return f"{table}\n{', '.join(f'{name} {value}' for name, value in report['machine'].items())}"


def machine(*distributions: str) -> dict[str, Any]:
    """The facts that a time depends on, with covidmm's version and some distributions'."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": platform.system(),
        "python": platform.python_version(),
        "covidmm": covidmm.__version__,
        **{name: version(name) for name in distributions},
    }


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
