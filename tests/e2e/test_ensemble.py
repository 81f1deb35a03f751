"""tools/ensemble.py as a person runs it: real processes, stopped and run again; ``tests/faults`` kills it."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.tool_runs import ROOT, run_tool, shared_server, start_tool

pytestmark = pytest.mark.e2e


def arguments(random_ensemble, folder, *options):
    return [random_ensemble.config, "--data", random_ensemble.raw, "--predictions", folder, *options]


def run(random_ensemble, folder, *options, code=0):
    ended = run_tool("ensemble.py", *arguments(random_ensemble, folder, *options))
    assert ended.code == code, ended.output
    return ended.output


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted((folder / "train").iterdir())}


@pytest.fixture(scope="module")
def undisturbed(random_ensemble, tmp_path_factory):
    """As a person starts it; the others here are forked from a process that has imported everything."""
    folder = tmp_path_factory.mktemp("undisturbed")
    command = [sys.executable, "tools/ensemble.py", *map(str, arguments(random_ensemble, folder))]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return folder, ended.stdout


def test_a_raw_folder_becomes_a_submission_and_the_time_is_told(undisturbed):
    folder, out = undisturbed
    assert "25 images of 24 studies" in out
    assert "predicted anew: frcnn, yolo, study" in out
    for step in ("decode", "frcnn", "yolo", "study", "fusion", "write"):
        assert f"\n  {step} " in out
    assert (folder / "train/submission.csv").read_text().count("\n") == 1 + 24 + 25


def test_stopped_in_the_middle_it_goes_on_to_the_same_bytes(random_ensemble, undisturbed, tmp_path):
    process = start_tool("ensemble.py", *arguments(random_ensemble, tmp_path))
    part = tmp_path / "train/yolo.part"
    while not (part.is_file() and part.read_bytes().count(b"\n") > 3):
        assert Path(f"/proc/{process.pid}").exists(), process.log.read_text()
        time.sleep(0.01)
    process.send(signal.SIGINT)
    ended = shared_server().wait(process)
    errors = ended.output
    assert ended.code == 130, errors
    assert "of 25 images predicted\nstopped; run the same command to resume\n" in errors
    assert not list(tmp_path.rglob("*.header.json"))
    run(random_ensemble, tmp_path)
    assert contents(tmp_path) == contents(undisturbed[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--strategy", "wfb"), "unknown ensemble strategy 'wfb': did you mean 'wbf'?"),
        (("--split", "val"), "has no split 'val'"),
        (("--cfg-options", "members.yolo.checkpoint=covidmm://nothing"), "covidmm://nothing: no "),
        (("--cfg-options", "members.yolo.wieght=2"), "unknown key 'wieght': did you mean 'weight'?"),
        (("--sweep",), "has no split 'val'"),
    ],
)
def test_a_bad_call_ends_in_one_line(random_ensemble, tmp_path, options, message):
    output = run(random_ensemble, tmp_path, *options, code=1)
    errors = [line for line in output.splitlines() if line.startswith("error")]
    assert len(errors) == 1
    assert message in errors[0]
    assert not list(tmp_path.rglob("*.csv"))
