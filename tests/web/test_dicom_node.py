"""The DICOM node, with real associations from other processes."""

import io
import logging
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import generate_uid

pytest.importorskip("highdicom", reason="the extra 'dicom' is not installed")
pytest.importorskip("pynetdicom", reason="the extra 'dicom' is not installed")

from pynetdicom import AE, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode
from pynetdicom.sop_class import (
    ComprehensiveSRStorage,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
)

from covidmm.errors import ConfigError
from covidmm.phantom import write_phantoms
from covidmm.web.dicom_node import DicomNode, NodeSettings
from covidmm.web.intake import CANNOT_UNDERSTAND, DOES_NOT_MATCH, OUT_OF_RESOURCES, Intake
from covidmm.web.outbox import Peer
from covidmm.web.queue import JobQueue

#: The folder of dcmtk's programs; pynetdicom brings others of the same names.
DCMTK = Path(shutil.which("dsr2xml") or "").parent
needs_dcmtk = pytest.mark.skipif(not shutil.which("dsr2xml"), reason="dcmtk is not installed")


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """Files of phantoms by study; the first has two images."""
    folder = tmp_path_factory.mktemp("sent")
    write_phantoms(folder, 40, seed=0, size=(160, 200))
    for study in (folder / "train").iterdir():
        names = {name: generate_uid() for name in ("StudyInstanceUID", "SeriesInstanceUID")}
        for file in study.rglob("*.dcm"):
            dataset = pydicom.dcmread(file)
            dataset.update({**names, "SOPInstanceUID": generate_uid()})  # those of a challenge are no UIDs
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            dataset.save_as(file)
    found = [sorted(study.rglob("*.dcm")) for study in sorted((folder / "train").iterdir())]
    return sorted(found, key=len, reverse=True)


@pytest.fixture
def jobs():
    made = JobQueue("predict", 4)
    yield made
    made.close()


@pytest.fixture
def node(service, jobs, tmp_path):
    made = DicomNode(service, jobs, NodeSettings(0, folder=tmp_path / "sr", threshold=0.005, study_seconds=0.3))
    yield made
    made.close()


def send(port, *files):
    """From a second process, as a modality would."""
    command = [sys.executable, "-m", "pynetdicom", "storescu", "127.0.0.1", str(port), *map(str, files), "-q"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def reports(folder, count):
    """The reports in a folder, when there are so many."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        found = sorted(folder.glob("*.dcm")) if folder.is_dir() else []
        if len(found) >= count:
            return [pydicom.dcmread(file) for file in found]
        time.sleep(0.05)
    raise AssertionError(f"{len(found)} reports after two minutes, not {count}")


def associate(port):
    entity = AE()
    for storage in (ComputedRadiographyImageStorage, DigitalXRayImageStorageForPresentation):
        entity.add_requested_context(storage)
    made = entity.associate("127.0.0.1", port)
    assert made.is_established
    return made


def referenced(report):
    series = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    return {one.ReferencedSOPInstanceUID for group in series for one in group.ReferencedSOPSequence}


def test_what_is_sent_is_reported_study_by_study(node, studies, tmp_path):
    files = [*studies[0], *studies[-1]]
    assert len(studies[0]) == 2
    assert send(node.port, *files).returncode == 0
    found = reports(tmp_path / "sr", 2)
    headers = [
        [pydicom.dcmread(file, stop_before_pixels=True) for file in study] for study in (studies[0], studies[-1])
    ]
    assert {report.StudyInstanceUID for report in found} == {study[0].StudyInstanceUID for study in headers}
    by_study = {study[0].StudyInstanceUID: {one.SOPInstanceUID for one in study} for study in headers}
    for report in found:
        assert referenced(report) == by_study[report.StudyInstanceUID]
        assert not any("ended early" in note for note in comments(report))


@needs_dcmtk
def test_dcmtk_can_send_and_echo(node, studies, tmp_path):
    peer = ["127.0.0.1", str(node.port)]
    assert subprocess.run([DCMTK / "echoscu", *peer], check=False, timeout=60).returncode == 0
    done = subprocess.run(
        [DCMTK / "storescu", "-xs", *peer, *studies[-1]], capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert len(reports(tmp_path / "sr", 1)) == 1


def test_a_bad_object_is_refused_and_the_next_is_taken(node, studies, tmp_path, caplog):
    good = pydicom.dcmread(studies[-1][0])
    bad = pydicom.dcmread(studies[-2][0])
    bad.PatientName = "Planted^Name"
    bad.PixelData = bad.PixelData[:100]
    with caplog.at_level(logging.INFO, "covidmm.web"):
        association = associate(node.port)
        assert association.send_c_store(bad).Status == CANNOT_UNDERSTAND
        assert association.send_c_store(good).Status == 0
        association.release()
        assert len(reports(tmp_path / "sr", 1)) == 1
    assert any(record.message.startswith("not taken: the object") for record in caplog.records)
    for text in ("Planted", good.SOPInstanceUID, good.StudyInstanceUID, str(good.PatientID)):
        assert text not in caplog.text


def test_a_radiograph_of_another_kind_is_refused(node, studies, caplog):
    leg = pydicom.dcmread(studies[-1][0])
    leg.BodyPartExamined = "LEG"
    association = associate(node.port)
    assert association.send_c_store(leg).Status == CANNOT_UNDERSTAND
    association.release()
    assert "not taken: the object: refused: BodyPartExamined is 'LEG'" in caplog.text


def test_a_full_queue_is_out_of_resources(service, jobs, studies, tmp_path):
    stop = threading.Event()
    running = [jobs.submit(stop.wait) for _ in range(jobs.size)]
    node = DicomNode(service, jobs, NodeSettings(0, folder=tmp_path / "sr", study_seconds=0.1))
    try:
        image = pydicom.dcmread(studies[-1][0])
        association = associate(node.port)
        assert association.send_c_store(image).Status == OUT_OF_RESOURCES
        stop.set()
        for one in running:
            one.result()
        assert association.send_c_store(image).Status == 0
        association.release()
        assert len(reports(tmp_path / "sr", 1)) == 1
    finally:
        stop.set()
        node.close()


@pytest.fixture
def patient_node(service, jobs, tmp_path):
    """Gathers until it is closed, however slow the machine is."""
    made = DicomNode(service, jobs, NodeSettings(0, folder=tmp_path / "sr", study_seconds=3600))
    yield made
    made.close()


def of_one_study(studies, count, **attributes):
    """Images of one study, with attributes of its own."""
    made = []
    for _ in range(count):
        image = pydicom.dcmread(studies[-1][0])
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        for name, value in attributes.items():
            setattr(image, name, value)
        made.append(image)
    return made


def comments(report):
    return [one.TextValue for one in report.ContentSequence if one.ValueType == "TEXT"]


KOREAN = {
    "SpecificCharacterSet": ["", "ISO 2022 IR 149"],
    "PatientName": "Hong^Gildong=洪^吉洞=홍^길동",
    "PatientID": "K-7",
    "PatientBirthDate": "19640229",
    "PatientSex": "F",
    "AccessionNumber": "A77",
    "StudyDate": "20210304",
    "StudyTime": "101112",
    "StudyID": "S5",
    "ReferringPhysicianName": "Known^Doctor",
}


def test_one_study_in_three_associations_one_of_them_aborted_is_one_report(patient_node, studies, tmp_path):
    images = of_one_study(studies, 3, **KOREAN)
    for number, image in enumerate(images):
        association = associate(patient_node.port)
        assert association.send_c_store(image).Status == 0
        if number == 1:
            association.abort()
        else:
            association.release()
    assert not (tmp_path / "sr").exists()
    patient_node.close()
    (report,) = reports(tmp_path / "sr", 1)
    assert referenced(report) == {image.SOPInstanceUID for image in images}
    for name, value in KOREAN.items():
        assert name == "SpecificCharacterSet" or str(report[name].value) == value
    assert any("ended early" in note for note in comments(report))


def test_a_study_that_grows_gets_a_report_that_replaces_the_former(node, studies, tmp_path):
    first, second = of_one_study(studies, 2)
    association = associate(node.port)
    assert association.send_c_store(first).Status == 0
    (former,) = reports(tmp_path / "sr", 1)
    assert association.send_c_store(first).Status == 0  # again: the report is delivered as it was
    assert association.send_c_store(second).Status == 0
    association.release()
    found = reports(tmp_path / "sr", 2)
    (latter,) = [one for one in found if one.SOPInstanceUID != former.SOPInstanceUID]
    (series,) = latter.PredecessorDocumentsSequence[0].ReferencedSeriesSequence
    assert series.SeriesInstanceUID == former.SeriesInstanceUID
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == former.SOPInstanceUID
    assert referenced(latter) == {first.SOPInstanceUID, second.SOPInstanceUID}
    assert latter.ContentDate + latter.ContentTime > former.ContentDate + former.ContentTime


@needs_dcmtk
def test_dcmtk_sends_one_study_in_three_associations_and_reads_its_report(patient_node, studies, tmp_path):
    for number, image in enumerate(of_one_study(studies, 3, **KOREAN)):
        image.save_as(tmp_path / f"{number}.dcm")
        options = ["--abort"] if number == 1 else []
        command = [DCMTK / "storescu", *options, "127.0.0.1", str(patient_node.port), str(tmp_path / f"{number}.dcm")]
        assert subprocess.run(command, check=False, timeout=120).returncode == 0
    patient_node.close()
    (file,) = (tmp_path / "sr").glob("*.dcm")
    done = subprocess.run([DCMTK / "dsr2xml", file], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    # dcmtk's check of person names knows no Unicode, and says so of every report
    assert [line for line in done.stderr.splitlines() if "VR checker does not support" not in line] == []
    assert "<last>Hong</last>" in done.stdout
    assert "<id>K-7</id>" in done.stdout
    assert "<accession>\n<number>A77</number>" in done.stdout
    assert "<sex>F</sex>" in done.stdout


def test_what_was_ignored_when_an_image_was_read_is_in_its_report(patient_node, studies, tmp_path):
    (image,) = of_one_study(studies, 1)
    image.PixelData += bytes(200)
    association = associate(patient_node.port)
    assert association.send_c_store(image).Status == 0
    association.release()
    patient_node.close()
    assert b"excess pixel bytes ignored" in next((tmp_path / "sr").iterdir()).read_bytes()


@pytest.mark.parametrize("name", ["StudyInstanceUID", "SeriesInstanceUID"])
def test_an_object_that_a_report_could_not_refer_to_is_refused(patient_node, studies, tmp_path, name):
    (image,) = of_one_study(studies, 1)
    del image[name]
    association = associate(patient_node.port)
    assert association.send_c_store(image).Status == DOES_NOT_MATCH
    setattr(image, name, "")
    assert association.send_c_store(image).Status == DOES_NOT_MATCH
    association.release()
    patient_node.close()
    assert not (tmp_path / "sr").exists()


def test_reports_are_deidentified_where_it_is_asked(service, jobs, studies, tmp_path):
    node = DicomNode(service, jobs, NodeSettings(0, folder=tmp_path / "sr", deidentify=True))
    images = of_one_study(studies, 2, **KOREAN)
    association = associate(node.port)
    for image in images:
        assert association.send_c_store(image).Status == 0
    association.release()
    node.close()
    (file,) = (tmp_path / "sr").iterdir()
    hidden = [images[0].StudyInstanceUID, *(image.SOPInstanceUID for image in images), "K-7", "홍^길동", "A77"]
    assert [value for value in hidden if value.encode() in file.read_bytes()] == []
    assert pydicom.dcmread(file).PatientIdentityRemoved == "YES"


@pytest.fixture
def most_held(monkeypatch):
    """The most bytes of a message that were held when a PDU had come."""
    found, counted = [0], Intake._arrived

    def arrived(self, event):
        counted(self, event)
        message = event.assoc.dimse.message
        found.append(len(message.data_set.getbuffer()) if message else 0)

    monkeypatch.setattr(Intake, "_arrived", arrived)
    return lambda: max(found)


def test_a_large_object_is_refused_with_a_status_and_never_held(service, jobs, studies, tmp_path, most_held):
    settings = NodeSettings(0, folder=tmp_path / "sr", object_bytes=200_000)
    node = DicomNode(service, jobs, settings)
    small, large = of_one_study(studies, 2)
    large.PixelData += bytes(2_000_000)
    association = associate(node.port)
    assert association.send_c_store(large).Status == OUT_OF_RESOURCES
    assert most_held() <= settings.object_bytes
    assert association.send_c_store(small).Status == 0  # the association goes on
    association.release()
    node.close()
    (report,) = reports(tmp_path / "sr", 1)
    assert referenced(report) == {small.SOPInstanceUID}


def test_an_object_without_end_costs_its_association(service, jobs, studies, tmp_path, most_held):
    settings = NodeSettings(0, folder=tmp_path / "sr", object_bytes=20_000)
    node = DicomNode(service, jobs, settings)
    (large,) = of_one_study(studies, 1)
    large.PixelData += bytes(2_000_000)
    assert "Status" not in associate(node.port).send_c_store(large)
    assert most_held() <= settings.object_bytes
    assert associate(node.port).is_established
    node.close()
    assert not (tmp_path / "sr").exists()


@pytest.mark.parametrize("kind", [1, 4])
def test_a_pdu_that_declares_four_gigabytes_is_not_waited_for(patient_node, kind):
    with socket.create_connection(("127.0.0.1", patient_node.port), timeout=60) as sender:
        sender.sendall(bytes([kind, 0]) + (2**32 - 1).to_bytes(4, "big"))
        answer = sender.recv(10)
    assert answer == bytes([7, 0, 0, 0, 0, 4, 0, 0, 2, 6])  # aborted, 'invalid PDU parameter value'
    assert associate(patient_node.port).is_established


def test_a_peer_that_does_not_wait_for_answers_cannot_fill_the_queue(patient_node, studies, monkeypatch):
    stop = threading.Event()
    monkeypatch.setattr(Intake, "refused", lambda *_: not stop.wait(120))  # the first object is worked on for long
    (image,) = of_one_study(studies, 1)
    association = associate(patient_node.port)
    (context,) = [one for one in association.accepted_contexts if one.abstract_syntax == image.SOPClassUID]
    syntax = context.transfer_syntax[0]
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    for _ in range(3):
        request.DataSet = io.BytesIO(encode(image, syntax.is_implicit_VR, syntax.is_little_endian))
        association.dimse.send_msg(request, context.context_id)
    end = time.monotonic() + 120
    while not association.is_aborted and time.monotonic() < end:
        time.sleep(0.02)
    stop.set()
    assert association.is_aborted


def test_without_room_an_object_is_refused_while_it_arrives(service, jobs, studies, tmp_path, most_held):
    node = DicomNode(service, jobs, NodeSettings(0, folder=tmp_path / "sr", total_bytes=30_000))
    association = associate(node.port)
    assert association.send_c_store(of_one_study(studies, 1)[0]).Status == OUT_OF_RESOURCES
    association.release()
    node.close()
    assert most_held() <= 30_000


def test_reports_are_sent_back(service, jobs, studies, tmp_path):
    taken = []

    def take(event):
        taken.append(event.dataset)
        return 0

    archive = AE("ARCHIVE")
    archive.add_supported_context(ComprehensiveSRStorage)
    server = archive.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, take)])
    peer = Peer.parse(f"127.0.0.1:{server.socket.getsockname()[1]}:ARCHIVE")
    node = DicomNode(service, jobs, NodeSettings(0, peer=peer))
    try:
        assert send(node.port, *studies[-1]).returncode == 0
    finally:
        node.close()  # answers what it took
        server.shutdown()
    assert [report.Modality for report in taken] == ["SR"]


def test_a_peer_that_is_not_there_is_told_and_the_node_lives(service, jobs, studies, caplog):
    node = DicomNode(service, jobs, NodeSettings(0, peer=Peer("127.0.0.1", 9, "NOBODY")))
    with caplog.at_level(logging.INFO, "covidmm.web"):
        try:
            assert send(node.port, *studies[-1]).returncode == 0
            assert send(node.port, *studies[-2]).returncode == 0
        finally:
            node.close()
    assert caplog.text.count("no report: 127.0.0.1:9: no association with NOBODY") == 2
    assert "2 reports were not delivered and are lost; --sr-dir keeps what cannot be sent" in caplog.text


@pytest.mark.parametrize(
    "text", ["host", "host:0:A", "host:port:A", "host:104:", ":104:A", f"host:104:{'A' * 17}", "host:104: ", "h:1:A\\B"]
)
def test_a_peer_of_another_form_is_refused(text):
    with pytest.raises(ConfigError, match="no peer"):
        Peer.parse(text)


def test_reports_must_go_somewhere():
    with pytest.raises(ConfigError, match="--sr-dir or --sr-to"):
        NodeSettings(11112)


@pytest.mark.parametrize("title", ["", " ", "A" * 17, "A\\B", "A\tB", "Ä"])
def test_a_title_that_is_none_is_refused(tmp_path, title):
    with pytest.raises(ConfigError, match=r"--dicom-ae: .* is no title"):
        NodeSettings(0, title=title, folder=tmp_path)


@pytest.mark.parametrize("threshold", [-0.01, 1.01, float("nan")])
def test_a_threshold_out_of_range_is_refused(tmp_path, threshold):
    with pytest.raises(ConfigError, match=r"--sr-threshold: expected a confidence in 0\.\.1"):
        NodeSettings(0, folder=tmp_path, threshold=threshold)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_time_that_is_none_is_refused(tmp_path, seconds):
    with pytest.raises(ConfigError, match="--study-timeout: expected seconds above 0"):
        NodeSettings(0, folder=tmp_path, study_seconds=seconds)


@pytest.mark.parametrize("folder", ["file/sr", "file", "/proc/sr"])
def test_a_folder_that_cannot_be_written_is_refused(tmp_path, folder):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"--sr-dir: .*: cannot be written: "):
        NodeSettings(0, folder=tmp_path / folder)


def test_a_folder_is_left_as_it_was(tmp_path):
    NodeSettings(0, folder=tmp_path / "a" / "b")
    NodeSettings(0, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_port_in_use_is_one_line(node, service, jobs, tmp_path):
    with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{node.port}: .*in use.*--dicom-port"):
        DicomNode(service, jobs, NodeSettings(node.port, folder=tmp_path))
