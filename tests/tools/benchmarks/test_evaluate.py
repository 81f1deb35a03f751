"""The comparison of evaluations on a few images, and that a difference does not pass unseen."""

import pytest
from benchmarks import evaluate


def test_both_ways_give_equal_numbers():
    report = evaluate.benchmark(images=30, boxes=20, repeats=1)
    assert report["accepted"]
    assert report["largest_difference"] < 1e-12
    assert report["ratio"] == pytest.approx(report["seconds"] / report["plain_seconds"])
    assert "NOT EQUAL" not in evaluate.format_report(report)


def test_the_boxes_are_worth_comparing():
    import numpy as np

    truth, results = evaluate._random_set(np.random.default_rng(0), 30, 20)
    precision = evaluate._ours(truth, results)[0, :, 0, 0, -1]
    assert 0.02 < precision.mean() < 0.98


def test_a_difference_is_seen(monkeypatch):
    true = evaluate._ours
    monkeypatch.setattr(evaluate, "_ours", lambda *given: true(*given) * 0.999)
    report = evaluate.benchmark(images=10, boxes=10, repeats=1)
    assert not report["accepted"]
    assert "NOT EQUAL" in evaluate.format_report(report)
