import numpy as np
import pytest
from benchmarks.serve import _summary, benchmark, format_report

from covidmm.errors import CovidmmError


def test_the_summary_is_percentiles_and_a_rate():
    seconds = [k / 100 for k in range(1, 101)]
    found = _summary(seconds, 50.0)
    assert found == pytest.approx({"p50": np.median(seconds), "p95": 0.9505, "per_second": 2.0})


@pytest.mark.e2e
def test_a_server_is_started_asked_and_stopped(random_ensemble, monkeypatch):
    monkeypatch.setattr("benchmarks.serve.WARM_UP", 2)
    pytest.importorskip("fastapi", reason="the extra 'web' is not installed")
    file = next((random_ensemble.raw / "train").rglob("*.dcm"))
    report = benchmark(str(random_ensemble.config), str(file), requests=4, clients=(1, 2), memory_requests=2)
    assert set(report["waits"]) == {"1", "2"}
    assert all(0 < wait["p50"] <= wait["p95"] < 60 for wait in report["waits"].values())
    assert report["memory"]["before_bytes"] > 1e8
    assert f"after 2 requests {report['memory']['after_bytes'] / 2**20:.0f} MiB" in format_report(report)


@pytest.mark.e2e
def test_a_server_that_does_not_start_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.serve.ROOT", tmp_path)
    with pytest.raises(CovidmmError, match="did not start"):
        benchmark(file=__file__)
