"""Which process this is."""

import os
import subprocess
import sys

import pytest

from covidmm.utils.distributed import is_first, leave, rank


def test_a_process_of_its_own_is_the_first(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    assert (rank(), is_first()) == (0, True)


def test_torchrun_tells_the_others(monkeypatch):
    monkeypatch.setenv("RANK", "3")
    assert (rank(), is_first()) == (3, False)


def test_outside_of_torchrun_a_process_is_left_as_ever(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    leave(3)


# as PyTorch's thread does that gives a tensor back while Python goes down
LEAVES = """
import atexit, sys
class Last:
    def __del__(self): print("Python goes down")
last = Last()
atexit.register(print, "handlers run")
print("work is done")
from covidmm.utils.distributed import leave
leave(5)
"""


@pytest.mark.parametrize(
    ("variables", "code", "said"),
    [
        ({"TORCHELASTIC_RUN_ID": "1"}, 5, ["work is done", "handlers run"]),
        ({}, 0, ["work is done", "handlers run", "Python goes down"]),
    ],
)
def test_a_process_of_torchrun_ends_with_its_words_said_and_python_not_taken_down(variables, code, said):
    environment = {name: value for name, value in os.environ.items() if name != "TORCHELASTIC_RUN_ID"} | variables
    ended = subprocess.run([sys.executable, "-c", LEAVES], env=environment, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout.splitlines()) == (code, said)
