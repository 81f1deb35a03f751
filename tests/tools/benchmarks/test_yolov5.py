"""The comparison with the reference package, where that is installed; its refusal where it is not."""

import importlib.util

import pytest
from benchmarks.yolov5 import benchmark, format_report

INSTALLED = importlib.util.find_spec("yolov5") is not None


@pytest.mark.skipif(not INSTALLED, reason="the reference package yolov5 (extra 'parity') is not installed")
def test_every_stage_and_batch_is_timed_for_both():
    report = benchmark("n", 64, (1, 2), repeats=1)
    timings = report["timings"]
    assert [(one["stage"], one["batch"]) for one in timings] == [
        (stage, batch) for batch in (1, 2) for stage in ("inference", "train step")
    ]
    for one in timings:
        assert one["ratio"] == pytest.approx(one["seconds"] / one["reference_seconds"])
    assert report["parameters"] == 1_765_270
    assert format_report(report).count("\n") == 4


@pytest.mark.skipif(INSTALLED, reason="the reference package yolov5 is installed")
def test_without_the_reference_it_says_how_to_get_it(run_benchmark):
    result = run_benchmark("yolov5", "--size", "n", "--pixels", "64")
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1].endswith("pip install 'covidmm[parity]'")
