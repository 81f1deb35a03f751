"""``tools/prepare.py`` as a process of its own: stopped, called wrongly, on real data; ``tests/faults`` kills it."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.processor_time import used

pytestmark = pytest.mark.e2e
TOOL = Path(__file__).parents[2] / "tools/prepare.py"
RESULTS = ("annotations", "images", "prepared.json", "skipped.csv", "notes.csv")


def command(*arguments):
    return [sys.executable, str(TOOL), *map(str, arguments)]


def run(*arguments):
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=300, check=False)


def contents(out):
    files = [path for name in RESULTS for path in [out / name, *(out / name).rglob("*")] if path.is_file()]
    return {path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def start_and_wait(out, raw, images):
    """Start a run and return once its journal holds some images."""
    process = subprocess.Popen(
        command("siim", raw, out, "--workers", 2),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    journal = out / ".journal/images.jsonl"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        if journal.exists() and journal.read_bytes().count(b"\n") >= images:
            return process
        time.sleep(0.002)
    pytest.fail(f"no image in the journal, exit code {process.poll()}: {process.communicate()}")


def test_layouts_have_options_of_their_own_and_exports_are_read_back(tmp_path, make):
    for seed in range(8):
        make.png(tmp_path / f"raw/{seed}.png", seed)
    header = ["id", "finding", "x1", "y1", "x2", "y2"]
    make.csv(tmp_path / "raw/a.csv", [header, *([f"{seed}.png", "x", 0.1, 0.1, 0.5, 0.6] for seed in range(8))])
    make.csv(tmp_path / "raw/b.csv", [header])
    options = ("--columns", "image=id,class=finding", "--normalised", "--table", "a.csv", "--workers", 1)
    first = run("table", tmp_path / "raw", tmp_path / "data", *options)
    assert first.returncode == 0, first.stderr
    assert "8 written" in first.stdout
    for kind in ("coco", "yolo", "voc", "table"):
        assert run("export", tmp_path / "data", tmp_path / kind, "--as", kind).returncode == 0
    again = run("voc", tmp_path / "voc", tmp_path / "again", "--workers", 1)
    assert again.returncode == 0, again.stderr
    wrong = run("voc", tmp_path / "voc", tmp_path / "again", "--normalised")
    assert (wrong.returncode, "unrecognized arguments: --normalised" in wrong.stderr) == (2, True)


@pytest.fixture(scope="module")
def raw(tmp_path_factory, make):
    return make.siim(tmp_path_factory.mktemp("raw"), studies=60, size=(700, 600))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, raw):
    out = tmp_path_factory.mktemp("prepared") / "out"
    result = run("siim", raw, out)
    assert result.returncode == 0, result.stderr
    assert "61 written, 0 already there" in result.stdout
    return contents(out)


def test_ctrl_c_says_that_it_goes_on(raw, undisturbed, tmp_path):
    out = tmp_path / "out"
    process = start_and_wait(out, raw, 3)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "images written\nstopped; run the same command to resume\n" in errors
    assert "Traceback" not in errors
    assert list(out.rglob("*.tmp")) == []
    assert run("siim", raw, out).returncode == 0
    assert contents(out) == undisturbed


def test_something_skipped_is_said_by_the_exit_code(tmp_path, make):
    raw = make.siim(tmp_path / "raw", studies=6)
    (raw / "train/study001/series0/image0010.dcm").write_bytes(b"")
    result = run("siim", raw, tmp_path / "out")
    assert result.returncode == 1
    assert result.stderr.startswith("error: 1 files or rows were skipped, see ")
    assert "train/study001/series0/image0010.dcm: pixels: " in result.stdout
    allowed = run("siim", raw, tmp_path / "out", "--allow-skipped", "--quiet")
    assert (allowed.returncode, allowed.stdout, allowed.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("siim", "{}/nowhere", "{}/out"), "error: {}/nowhere: no such folder"),
        (("rsna", "{}", "{}/../out"), "error: {}/stage_2_train_labels.csv: no such file"),
        (("nih", "{}", "{}/../out"), "error: {}/Data_Entry_2017.csv: no such file"),
        (("siim", "{}", "{}/../out", "--val-fold", "7"), "error: option val_fold: expected 0 to 4, got 7"),
    ],
)
def test_a_wrong_call_is_one_line(tmp_path, arguments, message):
    result = run(*(argument.format(tmp_path) for argument in arguments))
    assert result.returncode == 1
    assert result.stderr.splitlines() == [message.format(tmp_path)]


def test_an_unwritable_output_is_one_line(raw):
    result = run("siim", raw, "/proc/out")
    assert result.returncode == 1
    assert result.stderr.splitlines() == ["error: /proc/out: cannot be written: No such file or directory"]


def test_help_is_quick():
    start = used()
    result = run("siim", "--help")
    assert result.returncode == 0
    assert "--test-fraction" in result.stdout
    assert used() - start < 1
    assert "torch" not in subprocess.run(
        [sys.executable, "-X", "importtime", str(TOOL), "--help"], capture_output=True, text=True, check=True
    ).stderr.replace("torchvision", "")


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("layout", "options", "images", "boxes"),
    [
        ("siim", (), 140, 148),
        ("rsna", (), 78, 120),
        ("rsna", ("--negatives",), 150, 120),
        ("nih", (), 600, 0),
    ],
)
def test_real_radiographs(realdata, tmp_path, layout, options, images, boxes):
    result = run(layout, realdata / f"{layout}-mini", tmp_path / "out", *options)
    assert result.returncode == 0, result.stderr
    counts = json.loads((tmp_path / "out/prepared.json").read_text())["counts"].values()
    assert sum(count["images"] for count in counts) == images
    assert sum(count["boxes"] for count in counts) == boxes
    assert len(list((tmp_path / "out/images").rglob("*.png"))) == images
