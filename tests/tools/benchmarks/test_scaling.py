"""Two processes against one: the rates are those of the tools, and a tool's failure is reported."""

import os
import sys

import pytest
from benchmarks import scaling

from covidmm.errors import CovidmmError

SLOW = """
import pathlib, sys, time
out = pathlib.Path(sys.argv[1])
out.mkdir()
with (out / "lines").open("w", buffering=1) as file:
    for number in range(12):
        time.sleep(float(sys.argv[2]) if number > 3 else 0.5)
        print(number, file=file)
"""


def test_a_rate_is_that_of_the_work_not_of_the_start(tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-c", SLOW, out, 0.05]
    rate = scaling._rate(command, 1, out, 2, lambda: scaling._lines(out / "lines"))
    assert 5 < rate < 25  # of the start it is 2; a busy machine makes less than 20


def test_ratios_are_taken_in_turn_and_the_median_counts(tmp_path):
    rates = iter([10.0, 15.0, 10.0, 19.0, 10.0, 18.0])
    asked = []

    def rate(out, count):
        asked.append(count)
        return next(rates)

    found = scaling._scaling("train", rate, tmp_path, 3)
    assert asked == [1, 2] * 3
    assert (found.ratio, found.two, found.one) == (1.8, 18.0, 10.0)
    report = {"scalings": [vars(found)]}
    assert scaling.format_report(report).splitlines()[1].split() == ["1.80", "1.7", "18.00", "10.00", "train"]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not bind processes to cores")
def test_a_process_has_as_many_cores_as_it_is_said_to_have(tmp_path):
    mine = os.sched_getaffinity(0)
    write = "import os, pathlib, sys; pathlib.Path(sys.argv[1]).write_text(str(len(os.sched_getaffinity(0))))"
    scaling._run([sys.executable, "-c", write, tmp_path / "cores"], 1, tmp_path / "out", lambda: 0, {})
    assert (tmp_path / "cores").read_text() == "1"
    assert os.sched_getaffinity(0) == mine


def test_prepare_is_run_on_as_many_files_as_asked(tmp_path, monkeypatch):
    chest_like = scaling.dicom.chest_like
    monkeypatch.setattr(scaling.dicom, "chest_like", lambda height, width: chest_like(height // 4, width // 4))
    raw = scaling._many_dicoms(tmp_path / "raw", 45)
    assert scaling._prepare(raw, tmp_path / "out", 1) > 0
    assert (tmp_path / "out/prepared.json").is_file()


def test_a_tool_that_fails_is_told_by_its_own_words(tmp_path):
    command = [sys.executable, "tools/prepare.py", "siim", tmp_path / "none", tmp_path / "out"]
    with pytest.raises(CovidmmError, match=r"ended with 1: error: .*none"):
        scaling._run(command, 1, tmp_path / "out", lambda: 0, {})
