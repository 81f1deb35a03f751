"""Which process this is."""

import os
import subprocess
import sys

import pytest

from covidmm.utils.distributed import is_first, rank, under_torchrun


def test_a_process_of_its_own_is_the_first(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    assert (rank(), is_first()) == (0, True)


def test_torchrun_tells_the_others(monkeypatch):
    monkeypatch.setenv("RANK", "3")
    assert (rank(), is_first()) == (3, False)


def test_torchrun_is_known_by_its_number_of_the_run(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert not under_torchrun()
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    assert under_torchrun()


# as PyTorch's thread does that gives a tensor back while Python goes down
LEAVES = """
import atexit, sys
class Last:
    def __del__(self): print("Python goes down")
last = Last()
atexit.register(print, "handlers run")
print("work is done")
from covidmm.utils.command_line import run_tool
def main(): MAIN
sys.exit(run_tool(main))
"""


@pytest.mark.parametrize(
    ("variables", "main", "code", "said"),
    [
        ({"TORCHELASTIC_RUN_ID": "1"}, "return 5", 5, []),
        ({}, "raise KeyboardInterrupt", 130, []),
        ({}, "return 5", 5, ["Python goes down"]),
    ],
)
def test_under_torchrun_and_after_a_stop_python_is_not_taken_down(variables, main, code, said):
    environment = {name: value for name, value in os.environ.items() if name != "TORCHELASTIC_RUN_ID"} | variables
    script = LEAVES.replace("MAIN", main)
    ended = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout.splitlines()) == (code, ["work is done", "handlers run", *said])
