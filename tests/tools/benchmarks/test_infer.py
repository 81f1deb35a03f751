"""The table of backends, with the smallest detector."""

from pathlib import Path

import pytest
from benchmarks.infer import benchmark, format_report

from covidmm.errors import ConfigError

CONFIGS = Path(__file__).parents[3] / "configs"


def test_every_backend_that_is_installed_is_timed():
    pytest.importorskip("onnxruntime", reason="the extra 'export' is not installed")
    report = benchmark([str(CONFIGS / "phantom/yolov5n_phantom.py")], batch=1, repeats=1)
    timings = {(one["backend"], one["precision"]): one for one in report["timings"]}
    assert {("torch", "float32"), ("torch", "bfloat16"), ("onnxruntime", "float32")} <= set(timings)
    base = timings["torch", "float32"]
    assert base["ratio"] == 1
    for one in timings.values():
        assert one["ratio"] == pytest.approx(one["seconds_per_image"] / base["seconds_per_image"])
    assert len(format_report(report).splitlines()) == 2 + len(timings)


def test_no_config_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.py"):
        benchmark([str(tmp_path / "none.py")], batch=1, repeats=1)
