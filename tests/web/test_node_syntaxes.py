"""The DICOM node offers what the reader reads, and nothing else."""

import pytest
from pydicom.uid import AllTransferSyntaxes, ImplicitVRLittleEndian

pytest.importorskip("highdicom", reason="the extra 'dicom' is not installed")
pytest.importorskip("pynetdicom", reason="the extra 'dicom' is not installed")

from pynetdicom import AE
from pynetdicom.sop_class import DigitalXRayImageStorageForPresentation

from covidmm.radiograph.codecs import DECODERS
from covidmm.web.dicom_node import DicomNode, NodeSettings
from covidmm.web.queue import JobQueue


def test_every_transfer_syntax_that_is_read_is_accepted_and_no_other(service, tmp_path):
    jobs = JobQueue("predict", 4)
    node = DicomNode(service, jobs, NodeSettings(0, folder=tmp_path / "sr"))
    try:
        entity = AE()
        for syntax in AllTransferSyntaxes:
            entity.add_requested_context(DigitalXRayImageStorageForPresentation, syntax)
        association = entity.associate("127.0.0.1", node.port)
        accepted = {context.transfer_syntax[0] for context in association.accepted_contexts}
        association.release()
    finally:
        node.close()
        jobs.close()
    assert accepted == set(DECODERS)
    assert ImplicitVRLittleEndian in accepted
