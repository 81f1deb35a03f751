"""The times of starting, once."""

import pytest
from benchmarks import startup

from covidmm.errors import CovidmmError
from tests.helpers.processor_time import used


def test_every_tool_answers_help_and_a_training_comes_to_its_first_iteration(monkeypatch, tmp_path):
    monkeypatch.setattr(startup.time, "perf_counter", used)  # of the processor, whatever else the machine does
    config = tmp_path / "tiny.py"
    base = startup.CONFIG.parents[1] / "phantom/yolov5n_phantom.py"
    config.write_text(f"_base_ = '{base}'\ntrain_dataloader = dict(batch_size=2)\n")
    report = startup.benchmark(config, repeats=1)
    assert {"train.py", "test.py", "prepare.py", "ensemble.py", "serve.py"} <= set(report["help_seconds"])
    assert max(report["help_seconds"].values()) < 0.5  # the promise
    assert "first iteration over" in startup.format_report(report)


def test_a_training_that_fails_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(startup, "_help", lambda tool: 0.0)
    with pytest.raises(CovidmmError, match=r"ended before its first iteration.*none\.py"):
        startup.benchmark(tmp_path / "none.py", repeats=1)
