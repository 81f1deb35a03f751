"""Feeding and consuming of the smallest training."""

import time

import pytest
from benchmarks import pipeline
from benchmarks.pipeline import CONFIGS, _waiting, benchmark, format_report


def test_loading_is_set_against_the_step_that_consumes():
    small = [name for name in CONFIGS if name.endswith(("small/yolov5n_siim.py", "small/r18_nih.py"))]
    report = benchmark(small, images=4, repeats=3)
    assert [one["config"] for one in report["feeds"]] == ["yolov5n_siim", "r18_nih"]
    for one in report["feeds"]:
        assert one["ratio"] == pytest.approx(one["images_per_second"] / one["step_images_per_second"])
        assert one["ratio"] > 1  # one process alone keeps up; the promise is 2
        assert 0 <= one["waiting"] < 1
    assert format_report(report).count("\n") == 3


def test_the_share_of_waiting_is_of_all_iterations_but_the_first(monkeypatch):
    def loader():
        for seconds in (0.2, 0.01, 0.03, 60):
            time.sleep(seconds)
            yield seconds

    monkeypatch.setattr(pipeline, "WATCHED", 0.0)
    assert _waiting(loader(), lambda _: time.sleep(0.02), repeats=2) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(("watched", "most", "made"), [(0.2, 1000, 5), (60, 4, 4), (60, 1, 2)])
def test_a_quick_step_is_watched_longer(monkeypatch, watched, most, made):
    monkeypatch.setattr(pipeline, "WATCHED", watched)
    monkeypatch.setattr(pipeline, "ITERATIONS", most)
    steps = []

    def step(_):
        steps.append(0)
        time.sleep(0.05)

    _waiting(iter(range(1000)), step, repeats=1)
    assert len(steps) == pytest.approx(made, abs=1 if watched < 1 else 0)
