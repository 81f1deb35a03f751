"""Structured Reports, read by highdicom, pydicom and, where they are installed, by dcmtk and dicom3tools."""

import io
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pydicom
import pytest
import torch
from pydicom.uid import generate_uid

import covidmm
from covidmm.errors import ConfigError, RadiographError
from covidmm.findings import Detections, ImageFindings, StudyFindings, StudyLabels
from covidmm.outputs.dicom_identity import report_header
from covidmm.outputs.dicom_sr import DISCLAIMER, study_report

highdicom = pytest.importorskip("highdicom", reason="the extra 'dicom' is not installed")

#: What a report repeats of its images.
IDENTITY = {
    "PatientName": "Known^Name",
    "PatientID": "LINK-1",
    "IssuerOfPatientID": "THE WARD",
    "PatientBirthDate": "19640229",
    "PatientSex": "F",
    "AccessionNumber": "ACCESSION77",
    "StudyID": "STUDY-5",
    "StudyDate": "20210304",
    "StudyTime": "101112.25",
    "StudyDescription": "KNOWN study",
    "ReferringPhysicianName": "Known^Doctor",
}
#: What it does not.
PLANTED = {
    "PatientAddress": "1 Planted Street",
    "InstitutionName": "Planted Hospital",
    "OperatorsName": "Planted^Nurse",
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
    dataset.Modality = "DX"
    for name, value in {**IDENTITY, **PLANTED}.items():
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


def comments(report):
    """Every comment of a report, wherever it stands."""
    found = []

    def walk(items):
        for item in items:
            if item.ValueType == "TEXT" and item.ConceptNameCodeSequence[0].CodeValue == "121106":
                found.append(item.TextValue)
            walk(item.get("ContentSequence", []))

    walk(report.ContentSequence)
    return found


def read_again(report):
    return pydicom.dcmread(io.BytesIO(saved(report)))


def test_patient_and_study_are_those_of_the_images(content):
    report = pydicom.dcmread(io.BytesIO(content))
    assert report.SpecificCharacterSet == "ISO_IR 192"
    for name, value in IDENTITY.items():
        assert str(report.get(name)) == value
    for value in PLANTED.values():
        assert value.encode() not in content
    assert comments(report) == []


def test_attributes_that_the_images_lack_are_empty_or_absent():
    bare = source()
    for name in IDENTITY:
        del bare[name]
    report = read_again(study_report(findings(bare), [bare], 0.3, "m"))
    assert all(report.get(name) in ("", None) for name in IDENTITY)
    assert "PatientBirthDate" in report
    assert "IssuerOfPatientID" not in report


def test_images_that_disagree_are_said(sources):
    other = source()
    other.PatientName = "Another^Name"
    report = read_again(study_report(findings(sources[0], other), [sources[0], other], 0.3, "m"))
    assert report.PatientName == IDENTITY["PatientName"]
    assert comments(report) == ["the images of the study disagree in PatientName: that of the first is written"]


@pytest.mark.parametrize(
    ("name", "value", "written"),
    [
        ("PatientBirthDate", "1964.02.29", "19640229"),
        ("PatientBirthDate", "19630229", ""),
        ("PatientBirthDate", "unknown", ""),
        ("StudyTime", "10:11:12.5", "101112.5"),
        ("StudyTime", "2561", ""),
        ("StudyTime", "1011", "1011"),
        ("PatientSex", "f", "F"),
        ("PatientSex", "W", ""),
        ("AccessionNumber", ["A", "B"], "A"),
        ("PatientID", "a\tb", "ab"),
        ("StudyDescription", "x" * 2000, "x" * 1024),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_values_that_are_not_valid_never_cost_the_report(name, value, written):
    odd = source()
    odd[name] = pydicom.DataElement(name, pydicom.datadict.dictionary_VR(name), value, validation_mode=0)
    report = read_again(study_report(findings(odd), [odd], 0.3, "m"))
    assert (report.get(name) or "") == written
    said = [note for note in comments(report) if note.startswith(f"{name} of the first image")]
    assert len(said) == (value != written)


def sent_as(charset, raw):
    """A source whose name and description have these very bytes: pydicom does not write every character set well."""
    one = source()
    one.SpecificCharacterSet = "A" * len(charset)
    one.PatientName, one.StudyDescription = "B" * len(raw), "C" * len(raw)
    content = saved(study_file(one)).replace(b"A" * len(charset), charset)
    return pydicom.dcmread(io.BytesIO(content.replace(b"B" * len(raw), raw).replace(b"C" * len(raw), raw)))


@pytest.mark.parametrize(
    ("charset", "raw", "name"),
    [
        (b"ISO_IR 6", b"Plain^Name", "Plain^Name"),
        (b"ISO_IR 100", "Müller^Jörg".encode("latin-1"), "Müller^Jörg"),
        (b"ISO 2022 IR 100", "Buc^Jérôme".encode("latin-1"), "Buc^Jérôme"),
        (b"ISO_IR 144", "Москва^Щ".encode("iso8859_5"), "Москва^Щ"),
        (b"ISO_IR 13", "ﾔﾏﾀﾞ^ﾀﾛｳ".encode("shift_jis"), "ﾔﾏﾀﾞ^ﾀﾛｳ"),
        (b"ISO_IR 192", "Wang^Xiao=王^小东".encode(), "Wang^Xiao=王^小东"),
        (b"GB18030", "Wang^Xiao=王^小东".encode("gb18030"), "Wang^Xiao=王^小东"),
        (b"GBK", "Wang^Xiao=誠^小东".encode("gbk"), "Wang^Xiao=誠^小东"),  # its second byte is a backslash
        (  # the examples of PS3.5, K.2, I.2 and H.3.2
            b"\\ISO 2022 IR 58",
            b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab",
            "Zhang^XiaoDong=张^小东",
        ),
        (
            b"\\ISO 2022 IR 149",
            b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
            "Hong^Gildong=洪^吉洞=홍^길동",
        ),
        (
            b"ISO 2022 IR 13\\ISO 2022 IR 87",
            b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
            "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_names_are_written_in_unicode_whatever_the_images_are_written_in(charset, raw, name):
    sent = sent_as(charset, raw)
    report = read_again(study_report(findings(sent), [sent], 0.3, "m"))
    assert report.SpecificCharacterSet == "ISO_IR 192"
    assert str(report.PatientName) == name
    assert report.StudyDescription == name
    assert comments(report) == []


@pytest.mark.parametrize("charset", [b"", b"ISO_IR 6", b"ISO_IR 192", b"UTF8", b"NONSENSE", b"\\ISO 2022 IR 999"])
@pytest.mark.filterwarnings("ignore")
def test_a_wrong_or_missing_character_set_costs_no_report(charset):
    sent = sent_as(charset.ljust(16), "Müller^Jörg".encode("latin-1"))
    report = read_again(study_report(findings(sent), [sent], 0.3, "m"))
    assert str(report.PatientName) == str(sent.PatientName)
    assert any("outside the character set" in note for note in comments(report))


def study_file(dataset):
    """A dataset that can be saved as a file."""
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    return dataset


def test_a_report_is_deidentified_where_it_is_asked_and_then_under_new_uids(sources):
    original = saved(study_report(findings(*sources), sources, 0.3, "m"))
    made = study_report(findings(*sources), sources, 0.3, "m", deidentify=True)
    hidden = saved(made)
    known = [str(one.get(name)) for one in sources for name in ("SOPInstanceUID", "StudyInstanceUID")]
    for value in [*IDENTITY.values(), *known]:
        assert value == "F" or value.encode() in original
        assert value == "F" or value.encode() not in hidden
    report = pydicom.dcmread(io.BytesIO(hidden))
    assert report.PatientIdentityRemoved == "YES"
    assert report.StudyInstanceUID.is_valid
    again = study_report(findings(sources[0]), sources[:1], 0.3, "m", deidentify=True)
    assert again.StudyInstanceUID == report.StudyInstanceUID  # reports of one study stay together
    assert again.SOPInstanceUID not in original.decode("latin-1")


def test_what_was_noted_of_an_image_stands_in_the_group_of_the_image(sources):
    found = findings(*sources)
    images = [replace(found.images[0], notes=("window ignored: width 0", "first of 3 frames")), found.images[1]]
    report = study_report(replace(found, images=images), sources, 0.3, "m", notes=["sent twice"])
    assert sorted(comments(read_again(report))) == ["first of 3 frames", "sent twice", "window ignored: width 0"]
    read = highdicom.sr.ComprehensiveSR.from_dataset(read_again(report))
    groups = read.content.get_planar_roi_measurement_groups()
    assert [len(comments(group[0])) for group in groups] == [2, 0, 0, 0]


def test_a_report_names_the_one_that_it_replaces(sources):
    first = study_report(findings(sources[0]), sources[:1], 0.3, "m")
    second = read_again(study_report(findings(*sources), sources, 0.3, "m", replaces=first))
    (study,) = second.PredecessorDocumentsSequence
    assert study.StudyInstanceUID == sources[0].StudyInstanceUID
    assert study.ReferencedSeriesSequence[0].SeriesInstanceUID == first.SeriesInstanceUID
    (document,) = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert document.ReferencedSOPInstanceUID == first.SOPInstanceUID != second.SOPInstanceUID


def test_software_versions_keep_to_a_long_string(content, monkeypatch):
    assert len("\\".join(pydicom.dcmread(io.BytesIO(content)).SoftwareVersions)) <= 64
    monkeypatch.setattr("covidmm.outputs.dicom_sr.versions", lambda: {"covidmm": "1" * 80, "torch": "2", "numpy": "3"})
    one = source()
    report = study_report(findings(one), [one], 0.3, "m")
    assert list(report.SoftwareVersions) == ["torch 2", "numpy 3"]
    assert ("1" * 80).encode() in saved(report)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_threshold_that_is_no_confidence_is_refused(sources, threshold):
    with pytest.raises(ConfigError, match=r"expected a confidence in 0\.\.1"):
        study_report(findings(*sources), sources, threshold, "m")


def test_images_that_cannot_be_read_are_counted(sources):
    found = findings(*sources)
    broken = replace(found.images[1], error="x.dcm: is damaged")
    report = study_report(replace(found, images=[found.images[0], broken]), sources[:1], 0.3, "m")
    assert comments(read_again(report)) == ["1 images of the study cannot be read: this report tells nothing of them"]


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
    # dcmtk's check of person names knows no Unicode, and says so of every report
    assert [line for line in done.stderr.splitlines() if "VR checker does not support" not in line] == []
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


def test_headers_are_read_with_and_without_a_preamble_and_of_nothing_else(tmp_path, sources):
    content = saved(study_file(source(uid="1.2.3")))
    for number, file in enumerate((content, content[132:])):
        (tmp_path / f"{number}.dcm").write_bytes(file)
        header = report_header(tmp_path / f"{number}.dcm")
        assert (header.SOPInstanceUID, header.PatientName) == ("1.2.3", IDENTITY["PatientName"])
        assert "PatientAddress" not in header
    for other in (b"", b"a text", b"\x89PNG\r\n\x1a\n" + bytes(100), bytes(128) + b"DICM", content[:200]):
        with pytest.raises(ValueError, match="is no DICOM file"):
            report_header(io.BytesIO(other))


def test_a_box_has_the_code_of_its_class(sources):
    boxes = Detections(BOXES.boxes, BOXES.scores, np.array([2, 0, 1]))
    own = replace(findings(sources[0], boxes=boxes), classes=("pleural effusion", "nodule", "mass of the lung"))
    coded = {"pleural effusion": ("60046008", "SCT", "Pleural effusion")}
    report = study_report(own, sources, 0.3, "m", class_codes=coded)
    content = highdicom.sr.ComprehensiveSR.from_dataset(pydicom.dcmread(io.BytesIO(saved(report)))).content
    found = [(one.finding_type, one.tracking_identifier) for one in content.get_planar_roi_measurement_groups()]
    assert next((code.value, code.scheme_designator, code.meaning) for code, _ in found) == coded["pleural effusion"]
    assert [code.meaning for code, _ in found] == ["Pleural effusion", "mass of the lung"]
    assert found[1][0].scheme_designator == "99COVIDMM"
    names = [one.tracking_identifier for one in content.get_image_measurement_groups()]
    assert "nodule" in names  # its only box is below the threshold
    assert b"no public code was given for nodule, mass of the lung" in saved(report)
    assert b"pacity" not in saved(report).replace(b"least confidence", b"")


def test_other_study_classes_have_the_codes_of_the_table_or_private_ones(sources):
    """A name of SIIM's means nothing of the kind in another classifier."""
    images = findings(*sources).images
    labels = StudyLabels(("negative", "Pleural effusion", "Mass"), True, "negative")
    one = StudyFindings("s", images, np.array([0.2, 0.5, 0.91], np.float32), study_labels=labels)
    codes = {"Pleural effusion": ("60046008", "SCT", "Pleural effusion")}
    report = highdicom.sr.ComprehensiveSR.from_dataset(study_report(one, sources, 0.3, "m", class_codes=codes))
    groups = report.content.get_image_measurement_groups()
    known = {group.finding_type.meaning: group for group in groups}
    assert list(known) == ["negative", "Pleural effusion", "Mass"]
    assert known["Pleural effusion"].finding_type.scheme_designator == "SCT"
    assert known["Mass"].finding_type.scheme_designator == "99COVIDMM"
    predicted = {
        name: [one.value.meaning for one in group.get_qualitative_evaluations() if one.name.value == "predicted"]
        for name, group in known.items()
    }
    assert predicted == {"negative": ["Absent"], "Pleural effusion": ["Present"], "Mass": ["Present"]}
    assert "no public code was given for negative, Mass: the codes of 99COVIDMM are private" in str(saved(report))
    # the same numbers of other classes are another report
    other = replace(one, study_labels=StudyLabels(("negative", "Pleural effusion", "Nodule"), True, "negative"))
    uids = {study_report(which, sources, 0.3, "m").SOPInstanceUID for which in (one, other)}
    assert len(uids) == 2
