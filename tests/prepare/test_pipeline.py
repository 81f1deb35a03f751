import csv
import errno
import hashlib
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from filelock import FileLock

from covidmm.errors import ConfigError, DataError
from covidmm.prepare import pipeline as preparation
from covidmm.prepare.layouts import siim as siim_labels
from covidmm.prepare.options import Options
from covidmm.prepare.pipeline import prepare
from covidmm.utils.pool import WorkerCrashedError

OPTIONS = Options(workers=2, progress=False)
RESULTS = ("annotations", "images", "prepared.json", "skipped.csv", "notes.csv")


def contents(out):
    """Digest of every file that a prepared folder is read for."""
    files = [path for name in RESULTS for path in [out / name, *(out / name).rglob("*")] if path.is_file()]
    return {path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def documents(out):
    return {path.stem: json.loads(path.read_text()) for path in sorted((out / "annotations").glob("*.json"))}


def skipped(out):
    with (out / "skipped.csv").open(newline="") as file:
        return list(csv.reader(file))[1:]


@pytest.fixture(scope="module")
def raw(tmp_path_factory, make):
    return make.siim(tmp_path_factory.mktemp("raw"), studies=24)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, raw):
    out = tmp_path_factory.mktemp("prepared") / "out"
    return out, prepare("siim", raw, out, OPTIONS)


def test_every_image_is_written_and_in_one_split(prepared):
    out, summary = prepared
    assert (summary.written, summary.kept, summary.skipped.total) == (25, 0, 0)
    files = documents(out)
    assert list(files) == ["test", "train", "val"]
    images = [image for document in files.values() for image in document["images"]]
    assert sorted(image["id"] for image in images) == list(range(1, 26))
    for image in images:
        pixels = cv2.imread(str(out / "images" / image["file_name"]), cv2.IMREAD_UNCHANGED)
        assert (pixels.shape, pixels.dtype) == ((image["height"], image["width"]), np.uint8)
    for split, document in files.items():
        folds = {image["fold"] for image in document["images"]}
        assert folds <= {"test": {-1}, "val": {0}, "train": {1, 2, 3, 4}}[split]
    annotations = [box["id"] for document in files.values() for box in document["annotations"]]
    assert len(set(annotations)) == len(annotations) == sum(c["boxes"] for c in summary.counts.values()) == 30


def test_the_two_images_of_a_study_stay_together(prepared):
    out, _ = prepared
    sides = {image["image_id"]: split for split, document in documents(out).items() for image in document["images"]}
    assert sides["image0000"] == sides["image0001"]


def test_the_manifest_says_how_it_was_made(prepared):
    out, summary = prepared
    manifest = json.loads((out / "prepared.json").read_text())
    assert manifest["layout"] == "siim"
    assert manifest["options"]["max_size"] == 1024
    assert manifest["counts"] == summary.counts
    assert len(manifest["data_sha256"]) == 64
    classes = [counts["images_per_class"] for counts in manifest["counts"].values()]
    assert sum(per_class["negative"] for per_class in classes) == 7


def test_the_summary_names_places_and_counts(prepared):
    out, summary = prepared
    text = summary.text()
    assert "25 written, 0 already there" in text
    assert str(out) in text
    assert text.splitlines()[0].split() == ["train", "val", "test"]


def test_a_second_run_does_nothing(prepared, raw):
    out, _ = prepared
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and path.name != "lock"}
    summary = prepare("siim", raw, out, OPTIONS)
    assert (summary.written, summary.kept) == (0, 25)
    after = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and path.name != "lock"}
    assert after == before


def test_the_order_of_folder_and_tables_does_not_matter(prepared, tmp_path, make):
    def shuffled(numbers):
        random.Random(3).shuffle(numbers)
        return numbers

    other = make.siim(tmp_path / "raw", studies=24, order=shuffled)
    prepare("siim", other, tmp_path / "out", Options(workers=1, progress=False))
    assert contents(tmp_path / "out") == contents(prepared[0])


def test_lost_and_broken_images_are_made_again(prepared, raw, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(prepared[0], out)
    images = sorted((out / "images").rglob("*.png"))
    images[0].unlink()
    images[1].write_bytes(images[1].read_bytes()[:100])
    (out / "annotations/val.json").unlink()
    summary = prepare("siim", raw, out, OPTIONS)
    assert (summary.written, summary.kept) == (2, 23)
    assert contents(out) == contents(prepared[0])


def test_other_options_make_the_images_again(prepared, raw, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(prepared[0], out)
    summary = prepare("siim", raw, out, Options(max_size=30, workers=2, progress=False))
    assert summary.written == 25
    images = [image for document in documents(out).values() for image in document["images"]]
    assert {(image["width"], image["height"]) for image in images} == {(24, 30)}
    box = documents(out)["train"]["annotations"][0]["bbox"]
    assert box[:2] == [2.0, 3.0]


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_whole_folder_in_one_split(prepared, raw, tmp_path, split):
    out = tmp_path / "out"
    shutil.copytree(prepared[0], out)
    prepare("siim", raw, out, Options(split=split, workers=1, progress=False))
    files = documents(out)
    assert list(files) == [split]
    assert len(files[split]["images"]) == 25
    folds = {image["fold"] for image in files[split]["images"]}
    assert folds == {"train": {0, 1, 2, 3, 4}, "val": {0}, "test": {-1}}[split]


def test_an_interrupted_run_ends_as_an_undisturbed_one(prepared, raw, tmp_path, monkeypatch, capsys):
    run_each = preparation.run_each

    def stop_after_seven(*arguments):
        for number, pair in enumerate(run_each(*arguments)):
            if number == 7:
                raise KeyboardInterrupt
            yield pair

    monkeypatch.setattr(preparation, "run_each", stop_after_seven)
    with pytest.raises(KeyboardInterrupt):
        prepare("siim", raw, tmp_path / "out", OPTIONS)
    assert "stopped: 7 of 25 images written" in capsys.readouterr().err
    assert not (tmp_path / "out/annotations").exists()
    monkeypatch.undo()
    summary = prepare("siim", raw, tmp_path / "out", OPTIONS)
    assert summary.kept == 7
    assert contents(tmp_path / "out") == contents(prepared[0])


def test_bad_files_are_listed_and_the_rest_goes_on(tmp_path, make):
    raw = make.siim(tmp_path / "raw", studies=8)
    bad = {
        "train/study000/series1/image0001.dcm": b"",
        "train/study001/series0/image0010.dcm": b"not a radiograph\n" * 20,
        "train/study002/series0/image0020.dcm": (raw / "train/study002/series0/image0020.dcm").read_bytes()[:-3000],
    }
    for name, data in bad.items():
        (raw / name).write_bytes(data)
    summary = prepare("siim", raw, tmp_path / "out", OPTIONS)
    assert summary.written == 6
    assert [row[0] for row in skipped(tmp_path / "out")] == sorted(bad)
    assert all(row[1] == "pixels" and row[2] and "\n" not in row[2] for row in skipped(tmp_path / "out"))
    studies = {image["study_id"] for document in documents(tmp_path / "out").values() for image in document["images"]}
    assert "study000" in studies
    assert studies.isdisjoint({"study001", "study002"})
    assert len(list((tmp_path / "out/images").rglob("*"))) == 12  # six folders, six images, nothing half-written


def test_a_crashed_decoder_costs_one_image(raw, tmp_path, monkeypatch):
    run_each = preparation.run_each

    def crash(*arguments):
        for job, outcome in run_each(*arguments):
            lost = job.file_name == "study005/image0050.png"
            yield job, WorkerCrashedError("decoder crashed: its process died") if lost else outcome

    monkeypatch.setattr(preparation, "run_each", crash)
    assert prepare("siim", raw, tmp_path / "out", OPTIONS).written == 24
    row = ["train/study005/series0/image0050.dcm", "pixels", "decoder crashed: its process died"]
    assert skipped(tmp_path / "out") == [row]
    assert not (tmp_path / "out/images/study005/image0050.png").exists()


def test_a_source_that_went_bad_takes_its_image_along(prepared, raw, tmp_path):
    shutil.copytree(raw, tmp_path / "raw")
    prepare("siim", tmp_path / "raw", tmp_path / "out", OPTIONS)
    (tmp_path / "raw/train/study003/series0/image0030.dcm").write_bytes(b"")
    summary = prepare("siim", tmp_path / "raw", tmp_path / "out", OPTIONS)
    assert (summary.written, summary.kept, summary.skipped.total) == (0, 24, 1)
    assert not (tmp_path / "out/images/study003/image0030.png").exists()


def test_near_duplicates_stay_on_one_side(tmp_path, make):
    raw = make.siim(tmp_path / "raw", studies=40)
    images = [["id", "boxes", "label", "StudyInstanceUID"]]
    studies = [make.study_header]
    for number in range(40):  # a brighter copy of every image, as another study of another patient
        study, image = f"copy{number:03d}", f"copied{number:03d}"
        pixels = (make.picture(number * 10) * 0.8 + 100).astype(np.uint16)
        make.dicom(raw / f"train/{study}/series/{image}.dcm", pixels, study, f"other{number}")
        images.append(make.siim_row(image, study, []))
        studies.append([f"{study}_study", 1, 0, 0, 0])
    for name, rows in (("train_image_level.csv", images), ("train_study_level.csv", studies)):
        old = (raw / name).read_text()
        make.csv(raw / name, rows[1:])
        (raw / name).write_text(old + (raw / name).read_text())
    summary = prepare("siim", raw, tmp_path / "out", OPTIONS)
    assert summary.near_duplicates == 40
    sides = {
        image["image_id"]: image["fold"]
        for document in documents(tmp_path / "out").values()
        for image in document["images"]
    }
    assert all(sides[f"copied{number:03d}"] == sides[f"image{number:03d}0"] for number in range(40))


def test_patients_stay_on_one_side_unless_the_name_is_a_placeholder(tmp_path, make):
    raw = make.siim(tmp_path / "raw", studies=24)
    for number in range(24):
        path = raw / f"train/study{number:03d}/series0/image{number:03d}0.dcm"
        make.dicom(path, make.picture(number * 10), f"study{number:03d}", f"twin{number // 4}")
    prepare("siim", raw, tmp_path / "out", OPTIONS)
    folds = {
        image["study_id"]: image["fold"]
        for document in documents(tmp_path / "out").values()
        for image in document["images"]
    }
    for patient in range(6):
        assert len({folds[f"study{number:03d}"] for number in range(patient * 4, patient * 4 + 4)}) == 1
    for path in raw.rglob("*.dcm"):
        number = int(path.parts[-3].removeprefix("study"))
        make.dicom(path, make.picture(number * 10 + int(path.stem[-1])), path.parts[-3], "ANONYMOUS")
    summary = prepare("siim", raw, tmp_path / "out", OPTIONS)
    assert summary.notes.first[0].cause == "'ANONYMOUS' stands in 24 of 24 studies: not used for the splits"
    assert all(counts["images"] for counts in summary.counts.values())


def test_rsna(tmp_path, make):
    raw = make.rsna(tmp_path / "raw", patients=20)
    summary = prepare("rsna", raw, tmp_path / "out", OPTIONS)
    assert summary.written == 10
    assert "10 without a lung opacity" in summary.text()
    summary = prepare("rsna", raw, tmp_path / "out", Options(negatives=True, workers=2, progress=False))
    assert (summary.written, summary.kept) == (10, 10)
    images = [image for document in documents(tmp_path / "out").values() for image in document["images"]]
    assert {image["study_class"] for image in images} == {None}
    assert {image["rsna_class"] for image in images} == {
        "Normal",
        "No Lung Opacity / Not Normal",
        "Lung Opacity",
    }


def test_nih_by_patient(tmp_path, make):
    summary = prepare("nih", make.nih(tmp_path / "raw", patients=30), tmp_path / "out", OPTIONS)
    files = documents(tmp_path / "out")
    patients = {split: {image["patient"] for image in document["images"]} for split, document in files.items()}
    assert sum(map(len, patients.values())) == len(set.union(*patients.values())) == 30
    assert abs(summary.counts["test"]["images"] - 9) <= 2
    assert len(files["train"]["categories"]) == 15
    image = next(image for image in files["train"]["images"] if image["image_id"].endswith("_000"))
    assert image["labels"] in (["Hernia"], ["Atelectasis", "Effusion"])
    assert (image["view"], image["sex"], image["age"]) == ("PA", "F", 58)


def test_nih_honours_the_official_lists(tmp_path, make):
    raw = make.nih(tmp_path / "raw", patients=12, lists=True)
    # A training patient's image is a copy of a test patient's: it is left out of training.
    shutil.copy(raw / "images_001/images/00000001_000.png", raw / "images_001/images/00000010_000.png")
    summary = prepare("nih", raw, tmp_path / "out", OPTIONS)
    test = {image["image_id"] for image in documents(tmp_path / "out")["test"]["images"]}
    assert test == {f"{patient:08d}_{part:03d}" for patient in (1, 2, 3, 4) for part in (0, 1)}
    assert [note.file for note in summary.notes.first] == ["00000010/00000010_000.png", "00000010/00000010_001.png"]
    assert summary.counts["train"]["images"] + summary.counts["val"]["images"] == 14


@pytest.mark.parametrize("layout", ["siim", "rsna", "nih"])
def test_a_missing_or_empty_folder_is_one_line(tmp_path, layout):
    with pytest.raises(DataError, match="no such folder"):
        prepare(layout, tmp_path / "missing", tmp_path / "out", OPTIONS)
    (tmp_path / "raw").mkdir()
    with pytest.raises(DataError, match="no such file"):
        prepare(layout, tmp_path / "raw", tmp_path / "new/out", OPTIONS)
    assert not (tmp_path / "new").exists()
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="no such file"):
        prepare(layout, tmp_path / "raw", tmp_path / "out", OPTIONS)
    assert list((tmp_path / "out").iterdir()) == []


def test_nothing_usable_is_an_error_that_points_to_the_list(tmp_path, make):
    raw = make.siim(tmp_path / "raw", studies=2)
    for path in raw.rglob("*.dcm"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"no usable image, see .*skipped\.csv"):
        prepare("siim", raw, tmp_path / "out", OPTIONS)
    assert len(skipped(tmp_path / "out")) == 3
    assert not (tmp_path / "out/annotations").exists()


def test_foreign_folders_are_left_alone(prepared, raw, tmp_path, make):
    for out in (raw, raw / "prepared"):
        with pytest.raises(DataError, match="lies in the raw folder"):
            prepare("siim", raw, out, OPTIONS)
    with pytest.raises(DataError, match="holds a prepared siim data set"):
        prepare("rsna", make.rsna(tmp_path / "rsna"), prepared[0], OPTIONS)
    (tmp_path / "home").mkdir()
    (tmp_path / "home/letter.txt").touch()
    with pytest.raises(DataError, match="is not empty and was not made by prepare"):
        prepare("siim", raw, tmp_path / "home", OPTIONS)


def test_an_unwritable_place_is_one_line(raw, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot be written: Not a directory|cannot be written: File exists"):
        prepare("siim", raw, tmp_path / "file/out", OPTIONS)


@pytest.fixture
def _full_disk(monkeypatch):
    """No space for ``val.json``."""
    open_file = Path.open

    def full(self, *arguments, **options):
        if self.name.startswith("val.json") and arguments == ("wb",):
            raise OSError(errno.ENOSPC, "No space left on device", str(self))
        return open_file(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", full)


@pytest.mark.usefixtures("_full_disk")
def test_a_full_disk_while_the_annotations_are_written(prepared, raw, tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"val\.json\.tmp: cannot be written: No space left on device"):
        prepare("siim", raw, tmp_path / "out", OPTIONS)
    assert not (tmp_path / "out/prepared.json").exists()
    monkeypatch.undo()
    assert prepare("siim", raw, tmp_path / "out", OPTIONS).written == 0
    assert contents(tmp_path / "out") == contents(prepared[0])


@pytest.mark.usefixtures("_full_disk")
def test_where_there_is_no_space_for_other_splits_the_old_ones_stay(prepared, raw, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(prepared[0], out)
    with pytest.raises(DataError, match="No space left"):
        prepare("siim", raw, out, Options(seed=5, workers=1, progress=False))
    assert contents(out) == contents(prepared[0])


def test_splits_of_two_seeds_are_never_mixed(prepared, raw, tmp_path, monkeypatch):
    out = tmp_path / "out"
    shutil.copytree(prepared[0], out)
    replace = Path.replace

    def fail(self, target):
        if self.name == "train.json.tmp":  # test.json and val.json have their names
            raise OSError(errno.EIO, "Input/output error", str(self))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(DataError, match="Input/output error"):
        prepare("siim", raw, out, Options(seed=5, workers=1, progress=False))
    assert list(documents(out)) == ["test", "val"]
    assert not (out / "prepared.json").exists()
    assert list(out.rglob("*.tmp")) == []


def test_a_journal_of_an_earlier_version_is_not_read(prepared, raw, tmp_path):
    """It had one dict a line and no header; its images are made again."""
    out = tmp_path / "out"
    shutil.copytree(prepared[0], out)
    journal = out / ".journal/images.jsonl"
    lines = [json.loads(line)[0] for line in journal.read_text().splitlines()[1:]]
    journal.write_text("".join(json.dumps({**record, "original_width": 1}) + "\n" for record in lines))
    assert prepare("siim", raw, out, OPTIONS).written == 25
    assert contents(out) == contents(prepared[0])


@pytest.mark.parametrize("tail", ['[{"file_name": "study0', "\0\0\0"])
def test_a_journal_that_was_cut_off_costs_what_is_missing(prepared, raw, tmp_path, tail):
    out = tmp_path / "out"
    shutil.copytree(prepared[0], out)
    journal = out / ".journal/images.jsonl"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:-3]) + tail)
    assert prepare("siim", raw, out, OPTIONS).written == 3
    assert contents(out) == contents(prepared[0])
    assert prepare("siim", raw, out, OPTIONS).written == 0


def test_records_that_were_replaced_leave_the_journal(prepared, raw, tmp_path):
    shutil.copytree(raw, tmp_path / "raw")
    out = tmp_path / "out"
    prepare("siim", tmp_path / "raw", out, OPTIONS)
    assert len((out / ".journal/images.jsonl").read_text().splitlines()) == 26
    (tmp_path / "raw/train/study003/series0/image0030.dcm").write_bytes(b"")
    prepare("siim", tmp_path / "raw", out, Options(max_size=30, workers=2, progress=False))
    lines = (out / ".journal/images.jsonl").read_text().splitlines()
    assert len(lines) == 25
    assert "image0030" not in "".join(lines)
    assert prepare("siim", tmp_path / "raw", out, Options(max_size=30, workers=2, progress=False)).kept == 24


def test_two_runs_cannot_write_one_folder(prepared, raw):
    lock = FileLock(prepared[0] / ".journal/images.jsonl.lock")
    with lock, pytest.raises(DataError, match="another prepare is writing this folder"):
        prepare("siim", raw, prepared[0], OPTIONS)


def test_an_error_of_reading_is_not_called_one_of_writing(raw, tmp_path, monkeypatch):
    def fail(folder, options):
        raise PermissionError(errno.EACCES, "Permission denied", str(folder / "x"))

    monkeypatch.setattr(siim_labels, "read_folder", fail)
    with pytest.raises(PermissionError):
        prepare("siim", raw, tmp_path / "out", OPTIONS)
    assert not (tmp_path / "out").exists()


def write_tiny(raw, images):
    """An NIH folder of random pictures of 32 x 32 pixels."""
    chance = np.random.default_rng(0)
    (raw / "images").mkdir(parents=True)
    with (raw / "Data_Entry_2017.csv").open("w") as table:
        table.write("Image Index,Finding Labels,Patient ID\n")
        for number in range(images):
            name = f"{number:08d}_000.png"
            table.write(f"{name},{('Mass', 'Edema', 'No Finding')[number % 3]},{number // 2}\n")
            cv2.imwrite(str(raw / "images" / name), chance.integers(0, 256, (32, 32), dtype=np.uint8))
    return raw


MEASURED = """
import re, sys
from pathlib import Path
from covidmm.prepare.options import Options
from covidmm.prepare.pipeline import prepare
if __name__ == "__main__":
    summary = prepare("nih", Path(sys.argv[1]), Path(sys.argv[2]), Options(workers=2, progress=False))
    # ru_maxrss would be that of the process that started this one
    peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]
    print(sum(split["images"] for split in summary.counts.values()), peak)
"""


@pytest.mark.e2e
def test_memory_is_at_most_four_kilobytes_an_image(tmp_path):
    (tmp_path / "measured.py").write_text(MEASURED)
    peaks = []
    for images in (1500, 4000):
        raw = write_tiny(tmp_path / f"raw{images}", images)
        command = [sys.executable, str(tmp_path / "measured.py"), str(raw), str(tmp_path / f"out{images}")]
        ended = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
        found, peak = map(int, ended.stdout.split())
        assert found == images
        peaks.append(peak)
    # blocks of the search for duplicates, which do not grow further, take 16 MB
    assert peaks[1] - peaks[0] < 3500 * 4 + 16_000, peaks  # KiB


def test_options_are_checked_before_anything_is_written():
    with pytest.raises(ConfigError, match="val_fold"):
        Options(val_fold=9)
