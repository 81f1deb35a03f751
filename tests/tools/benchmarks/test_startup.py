"""The times of starting, once."""

import pytest
from benchmarks.startup import benchmark, format_report

from covidmm.errors import CovidmmError


@pytest.fixture(scope="module")
def report():
    return benchmark(repeats=1)


def test_every_tool_answers_help_within_its_promise(report):
    assert {"train.py", "test.py", "prepare.py", "ensemble.py", "serve.py"} <= set(report["help_seconds"])
    # the promise is 0.5 s, measured by itself; here other tests run beside it
    assert max(report["help_seconds"].values()) < 2


def test_a_training_comes_to_its_first_iteration(report):
    assert report["first_iteration_seconds"] > max(report["help_seconds"].values())
    assert "first iteration over" in format_report(report)


def test_a_training_that_fails_is_told(tmp_path):
    with pytest.raises(CovidmmError, match=r"ended before its first iteration.*none\.py"):
        benchmark(tmp_path / "none.py", repeats=1)
