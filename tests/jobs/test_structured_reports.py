"""A folder's Structured Reports, from real files and the real tool."""

import shutil

import pydicom
import pytest

from covidmm.jobs.structured_reports import _file_name
from covidmm.phantom import write_phantoms
from tests.helpers.tool_runs import run_tool

pytest.importorskip("highdicom", reason="the extra 'dicom' is not installed")
pytestmark = pytest.mark.e2e


def run(random_ensemble, data, folder, *more):
    options = ["--predictions", folder / "predictions", "--out", folder / "submission.csv", "--sr", folder / "sr"]
    return run_tool("ensemble.py", random_ensemble.config, "--data", data, *options, *more)


@pytest.fixture(scope="module")
def folder(random_ensemble, tmp_path_factory):
    """Three studies of DICOM files, one picture, one truncated file; and what the tool said of them."""
    folder = tmp_path_factory.mktemp("structured")
    data = folder / "data"
    write_phantoms(folder / "raw", 3, seed=0, size=(160, 200), workers=1)
    data.mkdir()
    for file in (folder / "raw").rglob("*.dcm"):
        shutil.copy(file, data)
    picture = next((random_ensemble.prepared / "images").rglob("*.png"))
    shutil.copy(picture, data / "picture.png")
    (data / "broken.dcm").write_bytes(bytes(128) + b"DICM and no more")
    done = run(random_ensemble, data, folder, "--sr-threshold", "0.005")
    assert done.code == 0, done.output
    return folder, done.output


def test_every_dicom_study_gets_a_report_and_the_others_are_listed(folder):
    folder, said = folder
    reports = list((folder / "sr").iterdir())
    assert len(reports) == 3
    assert "3 Structured Reports" in said
    assert "2 studies have none:" in said
    assert "is no DICOM file, a Structured Report can refer to DICOM only" in said
    assert "no image can be used" in said
    files = list((folder / "data").rglob("*.dcm"))
    patients = {pydicom.dcmread(file, stop_before_pixels=True).PatientID for file in files if file.stem != "broken"}
    assert {pydicom.dcmread(file).PatientID for file in reports} == patients


def test_a_second_run_writes_the_same_instances(folder, random_ensemble):
    folder, _ = folder
    before = {file.name: pydicom.dcmread(file).SOPInstanceUID for file in (folder / "sr").iterdir()}
    assert run(random_ensemble, folder / "data", folder, "--sr-threshold", "0.005").code == 0
    assert {file.name: pydicom.dcmread(file).SOPInstanceUID for file in (folder / "sr").iterdir()} == before


def test_reports_tell_whose_images_they_are_unless_they_are_deidentified(folder, random_ensemble, tmp_path):
    folder, _ = folder
    files = [file for file in (folder / "data").glob("*.dcm") if file.stem != "broken"]
    known = [pydicom.dcmread(file, stop_before_pixels=True) for file in files]
    done = run(random_ensemble, folder / "data", tmp_path, "--sr-threshold", "0.005", "--sr-deidentify")
    assert done.code == 0, done.output
    hidden = list((tmp_path / "sr").iterdir())
    assert len(hidden) == 3
    for file in hidden:
        report = pydicom.dcmread(file)
        assert report.PatientIdentityRemoved == "YES"
        assert (report.PatientID, report.StudyInstanceUID) == ("", file.stem)
    content = b"".join(file.read_bytes() for file in hidden)
    assert [one for one in known if str(one.SOPInstanceUID).encode() in content] == []


def test_a_threshold_out_of_range_is_one_line_at_the_start(random_ensemble, tmp_path):
    done = run(random_ensemble, tmp_path / "none", tmp_path, "--sr-threshold", "1.5")
    assert done.code == 1
    assert done.last_line == "error: --sr-threshold: expected a confidence in 0..1, got 1.5"


def test_a_folder_without_dicom_is_one_line(random_ensemble, tmp_path):
    done = run(random_ensemble, random_ensemble.prepared, tmp_path)
    assert done.code == 1
    assert done.last_line.startswith(f"error: --sr: {random_ensemble.prepared}: is prepared; reports are made of DICOM")
    assert not any((tmp_path / "sr").glob("*"))


@pytest.mark.parametrize("study", ["../outside", "/etc/passwd", "a/b", "", ".hidden", "x" * 300, "a\nb"])
def test_an_id_never_becomes_a_path(study):
    name = _file_name(study)
    assert len(name) == 32
    assert set(name) <= set("0123456789abcdef")
    assert _file_name("1.2.840.5") == "1.2.840.5"
