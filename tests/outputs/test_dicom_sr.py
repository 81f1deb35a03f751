"""Structured Reports, read by highdicom, pydicom and, where they are installed, by dcmtk and dicom3tools."""

import io
import shutil
import subprocess

import numpy as np
import pydicom
import pytest
import torch
from pydicom.uid import generate_uid

import covidmm
from covidmm.errors import RadiographError
from covidmm.findings import Detections, ImageFindings, StudyFindings
from covidmm.outputs.dicom_sr import DISCLAIMER, study_report

highdicom = pytest.importorskip("highdicom", reason="the extra 'dicom' is not installed")

PLANTED = {
    "PatientName": "Planted^Name",
    "PatientBirthDate": "19640229",
    "PatientAddress": "1 Planted Street",
    "AccessionNumber": "PLANTED77",
    "ReferringPhysicianName": "Planted^Doctor",
    "InstitutionName": "Planted Hospital",
    "StudyDescription": "PLANTED study",
}
BOXES = Detections(
    np.array([[10.5, 20, 200, 300.25], [5, 6, 90, 91], [1, 1, 2, 2]]), np.array([0.31, 0.92, 0.29], np.float32)
)


def source(study="1.2.826.0.1.3680043.8.498.1", uid=None):
    dataset = pydicom.Dataset()
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    dataset.SOPInstanceUID = uid or generate_uid()
    dataset.SeriesInstanceUID = "1.2.826.0.1.3680043.8.498.2"
    dataset.StudyInstanceUID = study
    dataset.PatientID = "LINK-1"
    dataset.Modality = "DX"
    for name, value in PLANTED.items():
        setattr(dataset, name, value)
    return dataset


def findings(*sources, boxes=BOXES):
    images = [ImageFindings(str(one.SOPInstanceUID), 400, 300, {}, boxes) for one in sources]
    return StudyFindings("s", images, np.array([0.1, 0.55, 0.2, 0.15], np.float32))


def saved(report):
    file = io.BytesIO()
    report.save_as(file, enforce_file_format=True)
    return file.getvalue()


@pytest.fixture(scope="module")
def sources():
    return [source(), source()]


@pytest.fixture(scope="module")
def content(sources):
    return saved(study_report(findings(*sources), sources, 0.3, "ensemble.py: wbf"))


def test_regions_scores_and_references_are_those_of_the_findings(content, sources):
    report = highdicom.sr.ComprehensiveSR.from_dataset(pydicom.dcmread(io.BytesIO(content)))
    groups = report.content.get_planar_roi_measurement_groups()
    assert len(groups) == 4  # two boxes above the threshold on each of two images
    first = groups[0]
    assert first.finding_type.value == "112001"  # opacity
    assert first.roi.value == pytest.approx(np.array([(5, 6), (90, 6), (90, 91), (5, 91), (5, 6)]))
    assert float(first.get_measurements()[0].value) == pytest.approx(92, abs=1e-3)
    referenced = [group.roi.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID for group in groups]
    assert referenced == [sources[0].SOPInstanceUID] * 2 + [sources[1].SOPInstanceUID] * 2
    classes = report.content.get_image_measurement_groups()
    found = {group.finding_type.value: float(group.get_measurements()[0].value) for group in classes}
    assert found == pytest.approx({"negative": 10, "typical": 55, "indeterminate": 20, "atypical": 15}, abs=1e-3)
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert {one.ReferencedSOPInstanceUID for one in evidence} == {one.SOPInstanceUID for one in sources}


def test_it_says_what_it_is_and_is_no_final_word(content):
    report = pydicom.dcmread(io.BytesIO(content))
    assert DISCLAIMER in report.SeriesDescription
    assert DISCLAIMER.encode() in content.partition(b"Intended use")[2]
    assert (report.PreliminaryFlag, report.VerificationFlag) == ("PRELIMINARY", "UNVERIFIED")
    assert report.ManufacturerModelName == "ensemble.py: wbf"


def test_it_says_what_it_was_made_by(sources):
    def made(*hashes):
        return study_report(findings(*sources), sources, 0.3, "m", hashes)

    report = made("config sha256: ab")
    assert f"covidmm {covidmm.__version__}" in report.SoftwareVersions
    assert f"highdicom {highdicom.__version__}" in report.SoftwareVersions
    assert f"torch {torch.__version__.partition('+')[0]}" in report.SoftwareVersions
    assert b"config sha256: ab" in saved(report)
    assert report.SOPInstanceUID != made("config sha256: cd").SOPInstanceUID


def test_of_the_patient_it_repeats_the_id_alone(content):
    report = pydicom.dcmread(io.BytesIO(content))
    assert report.PatientID == "LINK-1"
    for value in PLANTED.values():
        assert value.encode() not in content


def test_the_same_findings_are_the_same_instance(sources):
    def uid(*images, threshold=0.3):
        return study_report(findings(*images), images, threshold, "m").SOPInstanceUID

    assert uid(*sources) == uid(*sources)
    assert len({uid(*sources), uid(sources[0]), uid(*sources, threshold=0.5)}) == 3


def test_identifiers_that_are_no_uids_become_uids_and_the_report_says_so():
    odd = source(study="0119a8bc236c", uid="a8fc06ffde2d")
    reports = [study_report(findings(odd), [odd], 0.3, "m") for _ in range(2)]
    assert reports[0].StudyInstanceUID == reports[1].StudyInstanceUID
    content = saved(reports[0])
    assert b"are no UIDs" in content
    assert b"a8fc06ffde2d" not in content
    assert pydicom.dcmread(io.BytesIO(content)).StudyInstanceUID.is_valid


def test_a_study_without_boxes_or_classes_is_a_report_too(sources):
    empty = StudyFindings("s", findings(*sources, boxes=Detections.none()).images, None)
    content = saved(study_report(empty, sources, 0.3, "m"))
    report = highdicom.sr.ComprehensiveSR.from_dataset(pydicom.dcmread(io.BytesIO(content)))
    assert report.content.get_planar_roi_measurement_groups() == []
    groups = report.content.get_image_measurement_groups()  # that nothing was found is said of each image
    assert [group.finding_type.value for group in groups] == ["112001", "112001"]


def test_sources_that_cannot_be_referred_to_are_refused(sources):
    nameless = source()
    del nameless.SeriesInstanceUID
    with pytest.raises(RadiographError, match="no SeriesInstanceUID"):
        study_report(findings(nameless), [nameless], 0.3, "m")
    with pytest.raises(RadiographError, match="several studies"):
        study_report(findings(*sources), [sources[0], source(study="1.2.3")], 0.3, "m")
    with pytest.raises(RadiographError, match="no source image has the UID"):
        study_report(findings(*sources), sources[:1], 0.3, "m")


@pytest.mark.skipif(not shutil.which("dsrdump"), reason="dcmtk is not installed")
def test_dcmtk_reads_it(content, tmp_path):
    (tmp_path / "sr.dcm").write_bytes(content)
    done = subprocess.run(["dsrdump", tmp_path / "sr.dcm"], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.count('SCOORD:(,,"Image Region")') == 4
    assert '(112001,DCM,"Opacity")' in done.stdout


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dicom3tools is not installed")
def test_dicom3tools_finds_no_error(content, tmp_path):
    (tmp_path / "sr.dcm").write_bytes(content)
    done = subprocess.run(["dciodvfy", tmp_path / "sr.dcm"], capture_output=True, text=True, check=False, timeout=60)
    said = (done.stdout + done.stderr).splitlines()
    assert "ComprehensiveSR" in said
    assert [line for line in said if line.startswith("Error")] == []


def test_an_image_of_a_private_class_has_no_report_and_that_is_said():
    one = source()
    one.SOPClassUID = "1.2.3.4.5"
    with pytest.raises(RadiographError, match=r"study s: no report can refer to its images \(.*1\.2\.3\.4\.5"):
        study_report(findings(one), [one], 0.3, "m")
