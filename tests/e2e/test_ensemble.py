"""tools/ensemble.py as a person runs it: real processes, stopped and run again; ``tests/faults`` kills it."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]


def command(random_ensemble, folder, *options):
    tool = [sys.executable, str(ROOT / "tools/ensemble.py"), str(random_ensemble.config)]
    return [*tool, "--data", str(random_ensemble.raw), "--predictions", str(folder), *options]


def run(random_ensemble, folder, *options, code=0):
    ended = subprocess.run(
        command(random_ensemble, folder, *options), cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )
    assert ended.returncode == code, ended.stdout + ended.stderr
    return ended


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted((folder / "train").iterdir())}


@pytest.fixture(scope="module")
def undisturbed(random_ensemble, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    return folder, run(random_ensemble, folder).stdout


def test_a_raw_folder_becomes_a_submission_and_the_time_is_told(undisturbed):
    folder, out = undisturbed
    assert "25 images of 24 studies" in out
    assert "predicted anew: frcnn, yolo, study" in out
    for step in ("decode", "frcnn", "yolo", "study", "fusion", "write"):
        assert f"\n  {step} " in out
    assert (folder / "train/submission.csv").read_text().count("\n") == 1 + 24 + 25


def test_stopped_in_the_middle_it_goes_on_to_the_same_bytes(random_ensemble, undisturbed, tmp_path):
    process = subprocess.Popen(
        command(random_ensemble, tmp_path), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    part = tmp_path / "train/yolo.part"
    deadline = time.monotonic() + 200
    while not (part.is_file() and part.read_bytes().count(b"\n") > 3):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130, errors
    assert "of 25 images predicted\nstopped; the same command goes on\n" in errors
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
    errors = [
        line
        for line in run(random_ensemble, tmp_path, *options, code=1).stderr.splitlines()
        if line.startswith("error")
    ]
    assert len(errors) == 1
    assert message in errors[0]
    assert not list(tmp_path.rglob("*.csv"))
