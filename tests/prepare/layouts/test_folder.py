import json

import pytest

from covidmm.errors import DataError
from covidmm.prepare.layouts.folder import read_folder
from covidmm.prepare.options import Options
from covidmm.prepare.pipeline import prepare


def test_pictures_and_dicom_are_prepared_without_labels(tmp_path, make):
    raw = tmp_path / "raw"
    for seed in range(6):
        make.png(raw / f"p{seed}/ä b.png", seed)
    make.dicom(raw / "deep/x.dcm", make.picture(9), patient="p")
    (raw / "damaged.png").write_bytes(b"\x89PNG\r\n")
    (raw / "readme.txt").write_text("nothing")
    summary = prepare("folder", raw, tmp_path / "out", Options(workers=1, progress=False, split="test"))
    content = json.loads((tmp_path / "out/annotations/test.json").read_text())
    assert (content["annotations"], content["categories"]) == ([], [])
    assert {one["image_id"] for one in content["images"]} == {"deep_x", *(f"p{seed}_ä b" for seed in range(6))}
    assert [issue.file for issue in summary.skipped.first] == ["damaged.png"]
    assert "without boxes" in summary.text()


def test_splits_patients_and_a_second_run(tmp_path, make):
    for seed in range(12):
        make.png(tmp_path / f"raw/p{seed % 6}_{seed}.png", seed)
    options = Options(workers=1, progress=False, patient_from=r"^(p\d)_")
    first = prepare("folder", tmp_path / "raw", tmp_path / "out", options)
    assert sum(counts["images"] for counts in first.counts.values()) == 12
    assert (prepare("folder", tmp_path / "raw", tmp_path / "out", options).written) == 0
    split_of = {}
    for path in (tmp_path / "out/annotations").glob("*.json"):
        for image in json.loads(path.read_text())["images"]:
            assert split_of.setdefault(image["patient"], path.stem) == path.stem
    assert len(split_of) == 6


def test_an_empty_folder_is_an_error(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(DataError, match="no DICOM file, PNG, JPEG or TIFF in it"):
        read_folder(tmp_path, Options())
