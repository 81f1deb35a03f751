"""Every public function and tool that reads radiographs, on the whole corpus of bad ones."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from covidmm import radiograph
from covidmm.errors import RadiographError
from covidmm.inference import Predictor
from tests.corpus.entries import entries, write_corpus
from tests.corpus.entry import MANIFEST
from tests.corpus.valid import valid_files
from tests.helpers.tool_runs import run_tool

ROOT = Path(__file__).parents[2]
#: Of processor time, chosen here: the slowest entry unpacks half a gigabyte to refuse it.
SECONDS = 5.0
#: What one process may hold, the corpus after it: the imports, and a few times what the largest entry unpacks to.
PEAK_BYTES = 2**30


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"))


#: Entries with a readable image of the common size, which differ from each other only for the reader of headers.
_TEXTS = ("text_", "charset", "lines_", "formula", "path_", "endless", "private")


def telling(corpus):
    """The paths that networks and audits have to see: every error, every odd text, and one image of each size."""
    seen, chosen = set(), []
    for path, entry in corpus.items():
        size = None if expected_of(entry, "read") else radiograph.read(path).pixels.shape
        if size is None or size not in seen or entry.name.startswith(_TEXTS):
            chosen.append(path)
        seen.add(size)
    return chosen


@contextmanager
def a_common_person():
    """Root may read everything, so that 'may not be read' needs somebody else."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def expected_of(entry, part):
    """What a person, or root, gets to see."""
    if entry.name == "unreadable.dcm" and os.geteuid() == 0:
        return None
    return entry.expected if part == "read" else entry.expected_header


def outcome(function, path):
    """The error's line, or None."""
    try:
        function(path)
    except RadiographError as error:
        return str(error)
    return None


def agrees(found, expected, path):
    if expected is None or found is None:
        return found is expected
    return found.startswith(f"{path}: ") and expected in found and "\n" not in found and len(found) < 600


def test_the_manifest_tells_of_every_entry_and_of_no_other():
    with MANIFEST.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["name"] for row in rows) == sorted(entry.name for entry in entries())


def test_the_corpus_is_the_same_each_time(corpus):
    entries.cache_clear()
    valid_files.cache_clear()
    assert {entry.name: entry.content for entry in entries()} == {
        entry.name: entry.content for entry in corpus.values()
    }


@pytest.mark.parametrize("part", ["read", "header"])
def test_every_entry_ends_as_the_manifest_says(corpus, part):
    function = radiograph.read if part == "read" else radiograph.read_header
    wrong, slow = {}, {}
    for path, entry in corpus.items():
        started = time.process_time()
        found = outcome(function, path)
        seconds = time.process_time() - started
        if not agrees(found, expected_of(entry, part), path):
            wrong[entry.name] = found
        if seconds > SECONDS:
            slow[entry.name] = seconds
    assert not wrong
    assert not slow


def test_a_file_that_may_not_be_read_says_so(tmp_path):
    path = tmp_path / "unreadable.dcm"
    next(entry for entry in entries() if entry.name == path.name).write(path)
    with a_common_person():
        assert outcome(radiograph.read, path) == f"{path}: may not be read"


def test_a_sparse_file_larger_than_any_radiograph_is_not_read(tmp_path):
    path = tmp_path / "sparse.dcm"
    path.write_bytes(b"\0" * 128 + b"DICM")
    os.truncate(path, 2**40)
    assert "bytes, more than the" in outcome(radiograph.read, path)


def test_the_whole_corpus_stays_within_its_memory(corpus):
    script = (
        "import re, sys\nfrom covidmm import radiograph\nfrom covidmm.errors import RadiographError\n"
        "for path in sys.stdin.read().split('\\0'):\n"
        "    try:\n        radiograph.read(path)\n    except RadiographError:\n        pass\n"
        # not getrusage's: that begins with the peak of the process that started this one
        "print(int(re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1]) * 1024)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script],
        input="\0".join(map(str, corpus)),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) < PEAK_BYTES


@pytest.fixture(scope="module")
def raw(tmp_path_factory, make):
    """The corpus as a raw SIIM folder, each entry a study of its own; image id -> entry."""
    folder = tmp_path_factory.mktemp("raw")
    names = {entry.name.replace(".", "_"): entry for entry in entries()}
    images = [["id", "boxes", "label", "StudyInstanceUID"]]
    studies = [make.study_header]
    for name, entry in names.items():
        images.append(make.siim_row(name, f"study_{name}", []))
        studies.append([f"study_{name}_study", 1, 0, 0, 0])
        path = folder / "train" / f"study_{name}" / "series" / f"{name}.dcm"
        path.parent.mkdir(parents=True)
        entry.write(path)
    make.csv(folder / "train_image_level.csv", images)
    make.csv(folder / "train_study_level.csv", studies)
    return folder, names


@pytest.mark.e2e
def test_prepare_goes_on_and_lists_what_it_skipped(raw, tmp_path):
    folder, names = raw
    first = run_tool("prepare.py", "siim", folder, tmp_path / "out", "--workers", 2, "--max-size", 128)
    assert first.code == 1
    assert "Traceback" not in first.output
    with (tmp_path / "out/skipped.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    skipped = {Path(row["file"]).stem: row["cause"] for row in rows if row["field"] == "pixels"}
    # a folder is no file, so that the row of the label table has none
    skipped |= {
        row["field"].split("'")[1].removesuffix("_image"): row["cause"]
        for row in rows
        if row["field"].startswith("id ")
    }
    expected = {name: expected_of(entry, "read") for name, entry in names.items()}
    wrong = {
        name: (wanted, skipped.get(name))
        for name, wanted in expected.items()
        if (wanted is None) != (name not in skipped)
        or (wanted and wanted not in skipped[name] and "o such file" not in skipped[name])
    }
    assert not wrong
    written = {path.stem for path in (tmp_path / "out/images").rglob("*.png")}
    assert written == {name for name, wanted in expected.items() if wanted is None}
    images = [
        image["image_id"]
        for path in (tmp_path / "out/annotations").glob("*.json")
        for image in json.loads(path.read_text())["images"]
    ]
    assert sorted(images) == sorted(written)

    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.suffix in {".csv", ".json", ".png"}}
    second = run_tool("prepare.py", "siim", folder, tmp_path / "out", "--workers", 1, "--max-size", 128)
    assert second.code == 1
    assert {path: path.read_bytes() for path in before} == before


@pytest.fixture(scope="module")
def predictor(random_ensemble):
    return Predictor.from_config(random_ensemble.config, device="cpu")


def test_the_predictor_reports_every_entry(predictor, corpus):
    # a folder is a source of its own
    chosen = [path for path in telling(corpus) if not path.is_dir()]
    found = [image for study in predictor(chosen, errors="report") for image in study.images]
    assert len(found) == len(chosen)
    errors = {image.error.split(": ")[0]: image.error for image in found if image.error}
    wrong = [
        (path.name, errors.get(str(path)))
        for path in chosen
        if not agrees(errors.get(str(path)), expected_of(corpus[path], "read"), path)
    ]
    assert not wrong


@pytest.mark.e2e
def test_the_ensemble_writes_a_row_for_every_entry_of_a_folder(random_ensemble, corpus, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    for path in telling(corpus):
        corpus[path].write(folder / path.name)
    for name in ("first", "again"):
        ended = run_tool("ensemble.py", random_ensemble.config, "--data", folder, "--predictions", tmp_path / name)
        assert ended.code == 0, ended.output
        assert "Traceback" not in ended.output
    files = [path for path in telling(corpus) if not path.is_dir()]
    with (tmp_path / "first/images/submission.csv").open(newline="") as file:
        images = [row["id"] for row in csv.DictReader(file) if row["id"].endswith("_image")]
    with (tmp_path / "first/images/skipped.csv").open(newline="") as file:
        skipped = [(row["what"], Path(row["file"]).name) for row in csv.DictReader(file)]
    assert [name for what, name in skipped if what != "damaged"] == ["link_to_folder.dcm"]
    assert len(skipped) == 1 + sum(expected_of(corpus[path], "read") is not None for path in files)
    assert len(images) == len(set(images)) == len(files)
    assert not [name for name in images if re.search(r"[\x00-\x1f]", name) or name[0] in "=+-@"]
    for one in (tmp_path / "first/images").iterdir():
        assert one.read_bytes() == (tmp_path / "again/images" / one.name).read_bytes(), one.name


@pytest.mark.e2e
def test_the_audit_lists_every_entry_that_cannot_be_used(corpus, tmp_path):
    prepared = tmp_path / "prepared"
    (prepared / "images").mkdir(parents=True)
    placed = {prepared / "images" / path.name: corpus[path] for path in telling(corpus)}
    for path, entry in placed.items():
        entry.write(path)
    images = [
        {
            "id": number,
            "file_name": path.name,
            "width": 56,
            "height": 64,
            "original_width": 56,
            "original_height": 64,
            "image_id": path.name,
            "study_id": f"study {path.name}",
            "study_class": "negative",
            "fold": 0,
            "patient": None,
        }
        for number, path in enumerate(placed, 1)
    ]
    content = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "opacity"}]}
    (prepared / "annotations").mkdir()
    (prepared / "annotations/train.json").write_text(json.dumps(content))
    ended = run_tool("audit.py", prepared, "--out", tmp_path / "audit", "--workers", 2)
    assert ended.code == 2, ended.output
    assert "Traceback" not in ended.output
    (table,) = (tmp_path / "audit").glob("*images*.csv")
    with table.open(newline="") as file:
        found = {row["file"]: row["cause"] for row in csv.DictReader(file)}
    unreadable = {entry.name: expected_of(entry, "read") for entry in placed.values() if expected_of(entry, "read")}
    assert not {name: found.get(name) for name, wanted in unreadable.items() if wanted not in found.get(name, "")}
    assert all("the annotations say" in found[name] for name in found.keys() - unreadable.keys())
