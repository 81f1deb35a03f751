"""A DICOM node: predicts the images that it receives and stores or sends Structured Reports (extra ``dicom``).

It is a storage SCP (DICOM PS3.4, B). The images of a study gather until none has come for a time, over however many
associations, and are predicted then, in the same queue as the requests of the page. Only reports are written to disk,
and no identifier reaches the log.
"""

from __future__ import annotations

import hashlib
import io
import logging
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from pydicom import Dataset

from covidmm.errors import ConfigError, CovidmmError, RadiographError
from covidmm.outputs.dicom_identity import LINKS, report_header
from covidmm.outputs.dicom_sr import require_threshold
from covidmm.radiograph.codecs import DECODERS
from covidmm.web.queue import JobQueue, QueueFullError
from covidmm.web.service import Question, Service
from covidmm.web.uploads import Upload

try:
    from pynetdicom import AE, evt, sop_class
    from pynetdicom.events import Event

    from covidmm.web.gathering import Batch, Gathering, Received
    from covidmm.web.intake import CANNOT_UNDERSTAND, DOES_NOT_MATCH, OUT_OF_RESOURCES, STORED, Intake
    from covidmm.web.outbox import Outbox, Peer, valid_title
except ImportError as error:
    raise CovidmmError("the DICOM node is not installed: pip install 'covidmm[dicom]'") from error

_LOG = logging.getLogger("covidmm.web.dicom")
#: Projection radiographs.
_STORAGE_CLASSES = (
    sop_class.ComputedRadiographyImageStorage,
    sop_class.DigitalXRayImageStorageForPresentation,
    sop_class.DigitalXRayImageStorageForProcessing,
    sop_class.SecondaryCaptureImageStorage,
)


@dataclass(frozen=True)
class NodeSettings:
    """Settings of the operator; the default numbers are chosen here.

    Attributes:
        port: to listen at.
        host: address to listen at.
        title: of the application entity.
        folder: where reports are stored, or None.
        peer: where reports are sent, or None.
        threshold: boxes of lower confidence are left out of reports.
        object_bytes: one image.
        total_bytes: all images that arrive, wait, or are kept in case that their study grows.
        seconds: of silence after which an association is aborted.
        study_seconds: without an image after which a study is reported.
        retry_seconds: after which a report that was not delivered is tried again; each further pause is twice as long.
        deidentify: reports leave out whose images they are, and their UIDs are others.

    Raises:
        ConfigError: reports would go nowhere, a folder that cannot be written, a title that is none, a number out of
            its range.
    """

    port: int
    host: str = "127.0.0.1"
    title: str = "COVIDMM"
    folder: Path | None = None
    peer: Peer | None = None
    threshold: float = 0.3
    object_bytes: int = 128 * 2**20
    total_bytes: int = 512 * 2**20
    seconds: float = 60.0
    study_seconds: float = 30.0
    retry_seconds: float = 10.0
    deidentify: bool = False

    def __post_init__(self) -> None:
        if self.folder is None and self.peer is None:
            raise ConfigError("--dicom-port needs --sr-dir or --sr-to: reports would go nowhere")
        if not valid_title(self.title):
            raise ConfigError(
                f"--dicom-ae: '{self.title}' is no title: expected 1 to 16 printable ASCII characters without backslash"
            )
        require_threshold(self.threshold, "--sr-threshold")
        if not (math.isfinite(self.study_seconds) and self.study_seconds > 0):
            raise ConfigError(f"--study-timeout: expected seconds above 0, got {self.study_seconds:g}")
        if self.folder is not None:
            _require_writable(self.folder)


def _require_writable(folder: Path) -> None:
    """Write to a folder, and leave it, or that it is not there, as it was."""
    made = []
    try:
        made = [one for one in (folder, *folder.parents) if not one.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(f"--sr-dir: {folder}: cannot be written: {error.strerror}") from None
    finally:
        with suppress(OSError):
            for one in made:
                one.rmdir()


class DicomNode:
    """Receives images, predicts them and reports.

    Args:
        service: decodes and predicts.
        jobs: the queue that predictions wait in.
        settings: the operator's.

    Raises:
        CovidmmError: highdicom is missing, or the address cannot be used.
    """

    def __init__(self, service: Service, jobs: JobQueue, settings: NodeSettings) -> None:
        if not service.reports:
            raise CovidmmError("the DICOM node is not installed: pip install 'covidmm[dicom]'")
        self.service, self.jobs, self.settings = service, jobs, settings
        self._gathering = Gathering(settings.study_seconds, settings.total_bytes)
        self._intake = Intake(settings.object_bytes, self._gathering.has_room, self._gathering.ended_early)
        self._answers = threading.Thread(target=self._answer_all, name="dicom-answers", daemon=True)
        self._server = self._listen()
        self._outbox = Outbox(settings.folder, settings.peer, settings.title, settings.retry_seconds)
        self._answers.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.socket.getsockname()[1]

    def close(self) -> None:
        """Accept nothing more, answer what was received, and try once more to deliver it. Nothing the second time."""
        if not self._answers.is_alive():
            return
        self._server.shutdown()
        self._gathering.close()
        self._answers.join()
        self._outbox.close()

    def _listen(self) -> Any:
        # its messages may quote what peers send
        logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
        entity = AE(self.settings.title)
        entity.maximum_associations = 8
        entity.network_timeout = entity.dimse_timeout = entity.acse_timeout = self.settings.seconds
        for abstract in _STORAGE_CLASSES:
            entity.add_supported_context(abstract, list(DECODERS))
        entity.add_supported_context(sop_class.Verification)
        handlers: list[Any] = [
            *self._intake.handlers,
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_C_ECHO, self._echo),
        ]
        try:
            return entity.start_server((self.settings.host, self.settings.port), block=False, evt_handlers=handlers)
        except OSError as error:
            address = f"{self.settings.host}:{self.settings.port}"
            raise ConfigError(f"{address}: {error.strerror}; choose another with --dicom-port") from None

    def _echo(self, event: Event) -> int:
        self._intake.handled(event.assoc)
        return STORED

    def _store(self, event: Event) -> int:
        """Take one image, or refuse it with a status."""
        study = None
        try:
            if self._intake.refused(event.assoc) or self.jobs.pending >= self.jobs.size:
                return OUT_OF_RESOURCES
            content = event.encoded_dataset()
            try:
                radiograph = self.service.read(Upload("the object", content))
                header = report_header(io.BytesIO(content))
            except (RadiographError, ValueError) as error:
                _LOG.warning("not taken: %s", error)
                return CANNOT_UNDERSTAND
            if fault := _mismatch(header, event.request):
                _LOG.warning("not taken: the object %s", fault)
                return DOES_NOT_MATCH
            seen = self.service.anonymous(1, radiograph)
            received = Received(header, seen, hashlib.sha256(content).digest())
            if not self._gathering.add(str(header.StudyInstanceUID), str(header.SOPInstanceUID), received):
                return OUT_OF_RESOURCES
            study = str(header.StudyInstanceUID)
            return STORED
        finally:
            self._intake.handled(event.assoc, study)

    def _answer_all(self) -> None:
        while (batch := self._gathering.due()) is not None:
            report, content = None, batch.content
            try:
                content = content or self._waiting(self._report, batch)
                report = report_header(io.BytesIO(content))
                self._outbox.put(str(report.SOPInstanceUID), content)
                _LOG.info("a study of %d images: reported", len(batch.images))
            except CovidmmError as error:
                _LOG.error("a study of %d images: no report: %s", len(batch.images), error)
            except CancelledError:
                _LOG.error("a study of %d images: no report: the server stops", len(batch.images))
            except Exception as error:  # the next study is answered in any case; a message may quote the file
                _LOG.error("a study of %d images: no report: %s", len(batch.images), type(error).__name__)
            finally:
                self._gathering.reported(batch, report, content)

    def _waiting(self, job: Callable, *arguments: Any) -> Any:
        """The result of a job; waits while the queue is full, for what was received must be answered."""
        while True:
            try:
                return self.jobs.submit(job, *arguments).result()
            except QueueFullError as full:
                time.sleep(full.retry_after)

    def _report(self, batch: Batch) -> bytes:
        return self.service.report_of_headers(
            Question(),
            [one.radiograph for one in batch.images],
            [one.header for one in batch.images],
            self.settings.threshold,
            deidentify=self.settings.deidentify,
            replaces=batch.former,
            notes=batch.notes,
        )


def _mismatch(header: Dataset, request: Any) -> str:
    """What an object lacks that its class demands, or says otherwise than the request; nothing where all is well."""
    for name in LINKS:
        if not str(header.get(name) or "").strip():
            return f"has no {name}"
    named = {"SOPClassUID": request.AffectedSOPClassUID, "SOPInstanceUID": request.AffectedSOPInstanceUID}
    return next(
        (f"has another {name} than its request" for name, uid in named.items() if header[name].value != uid), ""
    )
