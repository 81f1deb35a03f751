"""The benchmarks on small images: what they compare, and that a difference does not pass unseen."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from benchmarks import dicom
from benchmarks.dicom import Comparison, benchmark, compare, format_report

from covidmm import radiograph

TOOL = Path(__file__).parents[3] / "tools" / "benchmark.py"


def run(*arguments, cwd):
    return subprocess.run(
        [sys.executable, TOOL, *arguments], capture_output=True, text=True, cwd=cwd, check=False, timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_both_ways_agree_and_both_are_timed():
    found = compare(60, 80, repeats=1)
    stages = ("mapping", "file", "prepare")
    assert [(one.case, one.stage) for one in found] == [(case, stage) for case in dicom.DICOM_CASES for stage in stages]
    for one in found:
        assert one.equal
        assert one.seconds > 0
        assert one.plain_seconds > 0
        assert one.ratio == pytest.approx(one.plain_seconds / one.seconds)


def test_the_measured_file_is_what_the_claim_names(tmp_path):
    stored = dicom.chest_like(50, 40)
    path = tmp_path / "image.dcm"
    dicom.write_file(path, stored, dicom.DICOM_CASES["window"])
    header = radiograph.read_header(path)
    assert (header.height, header.width, header.bits_stored, header.photometric) == (50, 40, 12, "MONOCHROME1")
    assert header.transfer_syntax == "1.2.840.10008.1.2.1"
    assert stored.max() > 2**11  # or it would be no 12-bit image
    grey = dicom.straightforward(stored, pydicom.dcmread(path))
    assert (grey.min(), grey.max()) == (0, 255)
    low, high = np.unravel_index(stored.argmin(), stored.shape), np.unravel_index(stored.argmax(), stored.shape)
    assert grey[low] > grey[high]  # MONOCHROME1


def test_two_levels_are_seen(monkeypatch):
    true = dicom.straightforward
    monkeypatch.setattr(dicom, "straightforward", lambda *given: np.where(true(*given) > 100, true(*given) - 2, 0))
    report = benchmark(30, 30, repeats=1)
    assert not report["accepted"]
    assert format_report(report).count("NOT EQUAL") == len(report["cases"]) == 6


@pytest.mark.parametrize(("difference", "equal"), [(0, True), (1, True), (2, False)])
def test_equal_means_within_one_level(difference, equal):
    assert Comparison("plain", "file", 1.0, 5.0, 5.0, difference).equal is equal


def test_an_impossible_size_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        benchmark(0, 10)


def test_the_tool_prints_a_table_and_writes_the_same_figures(tmp_path):
    done = run("dicom", "--height", "40", "--width", "50", "--repeats", "5", "--json", "found.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "found.json").read_text())
    assert report["image"] == {"height": 40, "width": 50, "bits_stored": 12}
    assert report["machine"]["cores"] >= 1
    for case in report["cases"]:
        assert case["equal"] is True
        assert f"{case['ratio']:.1f}x" in done.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["found.json"]


def test_a_difference_ends_the_tool_with_1(run_benchmark, monkeypatch):
    true = dicom.straightforward
    monkeypatch.setattr(dicom, "straightforward", lambda *given: true(*given) // 2)
    done = run_benchmark("dicom", "--height", "9", "--width", "9", "--repeats", "1")
    assert done.returncode == 1
    assert "NOT EQUAL" in done.stdout


def test_a_wrong_argument_is_named(run_benchmark):
    done = run_benchmark("dicom", "--repeats", "0")
    assert done.returncode == 2
    assert "--repeats" in done.stderr


@pytest.mark.parametrize("target", [".", "absent/found.json"])
def test_a_json_file_that_cannot_be_written_is_one_line(run_benchmark, tmp_path, target, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run_benchmark("dicom", "--json", target)
    assert done.returncode == 1
    assert done.stderr == f"error: --json {target}: not a file in a folder that exists\n"
    assert done.stdout == ""
