"""The DICOM node, with real associations from other processes."""

import logging
import shutil
import subprocess
import sys
import threading
import time

import pydicom
import pytest
from pydicom.uid import generate_uid

pytest.importorskip("highdicom", reason="the extra 'dicom' is not installed")
pytest.importorskip("pynetdicom", reason="the extra 'dicom' is not installed")

from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    ComprehensiveSRStorage,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
)

from covidmm.errors import ConfigError
from covidmm.phantom import write_phantoms
from covidmm.web.dicom_node import CANNOT_UNDERSTAND, OUT_OF_RESOURCES, DicomNode, NodeSettings, Peer
from covidmm.web.queue import JobQueue


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
    made = DicomNode(service, jobs, NodeSettings(0, folder=tmp_path / "sr", threshold=0.005))
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


@pytest.mark.skipif(not shutil.which("storescu"), reason="dcmtk is not installed")
def test_dcmtk_can_send_and_echo(node, studies, tmp_path):
    peer = ["127.0.0.1", str(node.port)]
    assert subprocess.run(["echoscu", *peer], check=False, timeout=60).returncode == 0
    done = subprocess.run(["storescu", "-xs", *peer, *studies[-1]], capture_output=True, check=False, timeout=60)
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
    assert any("refused" in record.message for record in caplog.records)
    for text in ("Planted", good.SOPInstanceUID, good.StudyInstanceUID, str(good.PatientID)):
        assert text not in caplog.text


def test_a_radiograph_of_another_kind_is_refused(node, studies, caplog):
    leg = pydicom.dcmread(studies[-1][0])
    leg.BodyPartExamined = "LEG"
    association = associate(node.port)
    assert association.send_c_store(leg).Status == CANNOT_UNDERSTAND
    association.release()
    assert "BodyPartExamined is 'LEG'" in caplog.text


def test_a_full_queue_is_out_of_resources(service, jobs, studies, tmp_path):
    stop = threading.Event()
    running = [jobs.submit(stop.wait) for _ in range(jobs.size)]
    node = DicomNode(service, jobs, NodeSettings(0, folder=tmp_path / "sr"))
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


def test_a_sender_that_leaves_or_sends_too_much_costs_its_own_association(service, jobs, studies, tmp_path):
    settings = NodeSettings(0, folder=tmp_path / "sr", object_bytes=20_000)
    node = DicomNode(service, jobs, settings)
    try:
        association = associate(node.port)
        large = pydicom.dcmread(studies[-1][0])
        assert len(large.PixelData) > settings.object_bytes
        assert "Status" not in association.send_c_store(large)
        assert associate(node.port).is_established
    finally:
        node.close()
    assert not (tmp_path / "sr").exists()


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


@pytest.mark.parametrize("text", ["host", "host:0:A", "host:port:A", "host:104:", ":104:A", f"host:104:{'A' * 17}"])
def test_a_peer_of_another_form_is_refused(text):
    with pytest.raises(ConfigError, match="no peer"):
        Peer.parse(text)


def test_reports_must_go_somewhere():
    with pytest.raises(ConfigError, match="--sr-dir or --sr-to"):
        NodeSettings(11112)


def test_a_port_in_use_is_one_line(node, service, jobs, tmp_path):
    with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{node.port}: .*in use.*--dicom-port"):
        DicomNode(service, jobs, NodeSettings(node.port, folder=tmp_path))
