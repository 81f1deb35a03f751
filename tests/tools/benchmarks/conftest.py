"""The tool in this process: what it imports is imported once."""

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

TOOL = Path(__file__).parents[3] / "tools/benchmark.py"


@pytest.fixture
def run_benchmark(monkeypatch, capsys):
    """Calls ``tools/benchmark.py`` with arguments: ``returncode``, ``stdout``, ``stderr``."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(TOOL), run_name="__main__")
        said = capsys.readouterr()
        return SimpleNamespace(returncode=end.value.code, stdout=said.out, stderr=said.err)

    return run
