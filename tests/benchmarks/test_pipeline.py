"""Feeding and consuming of the smallest training."""

import time

import pytest

from covidmm.benchmarks.pipeline import CONFIGS, _waiting, benchmark, format_report


def test_loading_is_set_against_the_step_that_consumes():
    small = [name for name in CONFIGS if name.endswith(("small/yolov5n_siim.py", "small/r18_nih.py"))]
    report = benchmark(small, images=4, repeats=3)
    assert [one["config"] for one in report["feeds"]] == ["yolov5n_siim", "r18_nih"]
    for one in report["feeds"]:
        assert one["ratio"] == pytest.approx(one["images_per_second"] / one["step_images_per_second"])
        assert one["ratio"] > 1  # one process alone keeps up; the promise is 2
        assert 0 <= one["waiting"] < 1
    assert format_report(report).count("\n") == 3


def test_the_share_of_waiting_is_of_all_iterations_but_the_first():
    def loader():
        for seconds in (0.2, 0.01, 0.03):
            time.sleep(seconds)
            yield seconds

    assert _waiting(loader(), lambda _: time.sleep(0.02), repeats=2) == pytest.approx(0.5, abs=0.1)
