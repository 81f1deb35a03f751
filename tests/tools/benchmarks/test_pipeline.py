"""Feeding and consuming of the smallest training."""

import time
from types import SimpleNamespace

import pytest
from benchmarks import pipeline
from benchmarks.pipeline import CONFIGS, _waiting, benchmark, format_report


def test_loading_is_set_against_the_step_that_consumes(monkeypatch, tmp_path):
    monkeypatch.setattr(pipeline.time, "perf_counter", time.process_time)  # whatever else the machine does
    monkeypatch.setattr(pipeline, "STUDIES", 8)
    monkeypatch.setattr(pipeline, "WATCHED", 0.2)
    small = [tmp_path / "small/yolov5n_siim.py", tmp_path / "small/r18_nih.py"]
    (tmp_path / "small").mkdir()
    for path in small:
        (base,) = (name for name in CONFIGS if name.endswith(f"small/{path.name}"))
        path.write_text(f"_base_ = {base!r}\ntrain_dataloader = dict(batch_size=2)\n")
    report = benchmark(small, images=4, repeats=1)
    assert [one["config"] for one in report["feeds"]] == ["yolov5n_siim", "r18_nih"]
    for one in report["feeds"]:
        assert one["ratio"] == pytest.approx(one["images_per_second"] / one["step_images_per_second"])
        assert one["ratio"] > 1  # one process alone keeps up; the promise is 2
        assert 0 <= one["waiting"] < 1
    assert format_report(report).count("\n") == 3


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still but for ``pass_by``."""
    now = [0.0]

    def pass_by(seconds):
        now[0] += seconds

    monkeypatch.setattr(pipeline.time, "perf_counter", lambda: now[0])
    return SimpleNamespace(pass_by=pass_by)


def test_the_share_of_waiting_is_of_all_iterations_but_the_first(monkeypatch, clock):
    def loader():
        for seconds in (0.2, 0.01, 0.03, 60):
            clock.pass_by(seconds)
            yield seconds

    monkeypatch.setattr(pipeline, "WATCHED", 0.0)
    assert _waiting(loader(), lambda _: clock.pass_by(0.02), repeats=2) == pytest.approx(0.5)


@pytest.mark.parametrize(("watched", "most", "made"), [(0.25, 1000, 5), (60, 4, 4), (60, 1, 2)])
def test_a_quick_step_is_watched_longer(monkeypatch, clock, watched, most, made):
    monkeypatch.setattr(pipeline, "WATCHED", watched)
    monkeypatch.setattr(pipeline, "ITERATIONS", most)
    steps = []

    def step(_):
        steps.append(0)
        clock.pass_by(0.0625)

    _waiting(iter(range(1000)), step, repeats=1)
    assert len(steps) == made
