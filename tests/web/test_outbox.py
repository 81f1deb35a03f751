"""Reports that cannot be stored or sent, with a real archive."""

import io
import logging
import time

import pydicom
import pytest
from pydicom.uid import ComprehensiveSRStorage, ExplicitVRLittleEndian, generate_uid

pytest.importorskip("pynetdicom", reason="the extra 'dicom' is not installed")

from pynetdicom import AE, evt

from covidmm.web.outbox import UNSENT, Outbox, Peer, accepted


def report():
    dataset = pydicom.Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = ComprehensiveSRStorage, generate_uid()
    dataset.PatientName = "Known^Name"
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    content = io.BytesIO()
    dataset.save_as(content, enforce_file_format=True)
    return str(dataset.SOPInstanceUID), content.getvalue()


@pytest.fixture
def archive():
    """Takes nothing until it is told to; its peer, what it took, and the status of its next answers."""
    taken, status = [], [0xA700]

    def take(event):
        if status[0] == 0:
            taken.append(str(event.request.AffectedSOPInstanceUID))
        return status[0]

    entity = AE("ARCHIVE")
    entity.add_supported_context(ComprehensiveSRStorage)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, take)])
    yield Peer("127.0.0.1", server.socket.getsockname()[1], "ARCHIVE"), taken, status
    server.shutdown()


def until(condition):
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, "not within two minutes"
        time.sleep(0.02)


def test_what_was_not_taken_is_said_and_tried_again(archive, caplog):
    peer, taken, status = archive
    uid, content = report()
    with caplog.at_level(logging.INFO, "covidmm.web"):
        outbox = Outbox(None, peer, "COVIDMM", 0.05)
        outbox.put(uid, content)
        until(lambda: "did not take the report: status 0xa700; it is kept, and tried again in 0.05 s" in caplog.text)
        status[0] = 0
        until(lambda: taken)
        outbox.close()
    assert taken == [uid]
    assert "lost" not in caplog.text
    for text in (uid, "Known"):
        assert text not in caplog.text


def test_what_was_not_sent_is_sent_by_the_next_run(archive, tmp_path, caplog):
    peer, taken, status = archive
    uid, content = report()
    with caplog.at_level(logging.INFO, "covidmm.web"):
        outbox = Outbox(tmp_path / "sr", peer, "COVIDMM", 60)
        outbox.put(uid, content)
        outbox.close()
        assert f"1 reports were not sent; they are kept in '{UNSENT}' and sent by the next run" in caplog.text
        assert (tmp_path / "sr" / f"{uid}.dcm").read_bytes() == content
        assert (tmp_path / "sr" / UNSENT / f"{uid}.dcm").read_bytes() == content
        status[0] = 0
        outbox = Outbox(tmp_path / "sr", peer, "COVIDMM", 60)
        until(lambda: taken)
        outbox.close()
    assert taken == [uid]
    assert "1 reports of an earlier run are to be sent" in caplog.text
    assert list((tmp_path / "sr" / UNSENT).iterdir()) == []


def test_what_could_not_be_stored_is_tried_again(tmp_path, caplog):
    folder = tmp_path / "sr"
    folder.touch()  # a file where the folder belongs
    uid, content = report()
    with caplog.at_level(logging.INFO, "covidmm.web"):
        outbox = Outbox(folder, None, "COVIDMM", 0.05)
        outbox.put(uid, content)
        until(lambda: "a report was not stored, no report: File exists; it is kept" in caplog.text)
        folder.unlink()
        until((folder / f"{uid}.dcm").exists)
        outbox.close()
    assert (folder / f"{uid}.dcm").read_bytes() == content


def test_what_is_lost_is_counted(tmp_path, caplog):
    (tmp_path / "sr").touch()
    with caplog.at_level(logging.INFO, "covidmm.web"):
        outbox = Outbox(tmp_path / "sr", None, "COVIDMM", 60)
        for _ in range(2):
            outbox.put(*report())
        outbox.close()
    assert "2 reports were not delivered and are lost" in caplog.text


@pytest.mark.parametrize(
    ("status", "has_it"), [(0, True), (0xB000, True), (0xB007, True), (0x0111, True), (0xA700, False), (0xC000, False)]
)
def test_warnings_and_duplicates_are_no_failures(status, has_it):
    assert accepted(status) is has_it
