"""A DICOM node: predicts the images that it receives and stores or sends Structured Reports (extra ``dicom``).

It is a storage SCP (DICOM PS3.4, B). The images of an association are grouped by study and predicted when it ends, in
the same queue as the requests of the page. Only the report is written to disk, and no identifier reaches the log.
"""

from __future__ import annotations

import io
import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom

from covidmm.errors import ConfigError, CovidmmError, RadiographError
from covidmm.radiograph import Radiograph
from covidmm.radiograph.codecs import DECODERS
from covidmm.utils.fileio import write_bytes
from covidmm.web.queue import JobQueue, QueueFullError
from covidmm.web.service import Question, Service
from covidmm.web.uploads import Upload

try:
    from pynetdicom import AE, evt, sop_class
    from pynetdicom.events import Event
except ImportError as error:
    raise CovidmmError("the DICOM node is not installed: pip install 'covidmm[dicom]'") from error

_LOG = logging.getLogger("covidmm.web.dicom")
#: Statuses of C-STORE (PS3.4, table B.2-1).
STORED, OUT_OF_RESOURCES, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xC000
#: Projection radiographs.
_STORAGE_CLASSES = (
    sop_class.ComputedRadiographyImageStorage,
    sop_class.DigitalXRayImageStorageForPresentation,
    sop_class.DigitalXRayImageStorageForProcessing,
    sop_class.SecondaryCaptureImageStorage,
)


@dataclass(frozen=True)
class Peer:
    """Where reports are sent: host, port and title of an application entity."""

    host: str
    port: int
    title: str

    @classmethod
    def parse(cls, text: str) -> Peer:
        """Read ``host:port:TITLE``.

        Raises:
            ConfigError: it is of another form.
        """
        host, _, rest = text.partition(":")
        port, _, title = rest.partition(":")
        if not (host and title and len(title) <= 16 and port.isdigit() and 0 < int(port) < 2**16):
            raise ConfigError(f"'{text}' is no peer: expected host:port:TITLE, with a title of at most 16 characters")
        return cls(host, int(port), title)


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
        total_bytes: all images that wait.
        seconds: of silence after which an association is aborted.

    Raises:
        ConfigError: reports would go nowhere.
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

    def __post_init__(self) -> None:
        if self.folder is None and self.peer is None:
            raise ConfigError("--dicom-port needs --sr-dir or --sr-to: reports would go nowhere")


@dataclass
class _Received:
    """The images of one association, by study, and the bytes since its last image."""

    images: dict[str, dict[str, tuple[Upload, Radiograph]]] = field(default_factory=dict)
    incoming: int = 0


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
        self._lock = threading.Lock()
        self._open: dict[Any, _Received] = {}
        self._held = 0
        self._studies: queue.Queue[list[tuple[Upload, Radiograph]] | None] = queue.Queue()
        self._answers = threading.Thread(target=self._answer_all, name="dicom-answers", daemon=True)
        self._server = self._listen()
        self._answers.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.socket.getsockname()[1]

    def close(self) -> None:
        """Accept nothing more, and answer what was received."""
        self._server.shutdown()
        self._studies.put(None)
        self._answers.join()

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
            (evt.EVT_DATA_RECV, self._count),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_CONN_CLOSE, self._ended),
        ]
        try:
            return entity.start_server((self.settings.host, self.settings.port), block=False, evt_handlers=handlers)
        except OSError as error:
            address = f"{self.settings.host}:{self.settings.port}"
            raise ConfigError(f"{address}: {error.strerror}; choose another with --dicom-port") from None

    def _count(self, event: Event) -> None:
        """Abort an association whose object grows too large, for it is held in memory."""
        with self._lock:
            received = self._open.setdefault(event.assoc, _Received())
            received.incoming += len(event.data)
            too_much = received.incoming > self.settings.object_bytes
        if too_much:
            _LOG.warning("an object of more than %d bytes, association aborted", self.settings.object_bytes)
            event.assoc.abort()

    def _store(self, event: Event) -> int:
        """Take one image, or refuse it with a status."""
        with self._lock:
            received = self._open.setdefault(event.assoc, _Received())
            received.incoming = 0
            if self._held > self.settings.total_bytes or self.jobs.pending >= self.jobs.size:
                return OUT_OF_RESOURCES
        upload = Upload("the object", event.encoded_dataset())
        try:
            radiograph = self.service.read(upload)
        except RadiographError as error:
            _LOG.warning("refused: %s", error)
            return CANNOT_UNDERSTAND
        name = str(event.request.AffectedSOPInstanceUID)
        small = self.service.anonymous(1, radiograph)
        with self._lock:
            study = received.images.setdefault(radiograph.header.study or name, {})
            self._held += len(upload.content) - (len(study[name][0].content) if name in study else 0)
            study[name] = (upload, small)
        return STORED

    def _ended(self, event: Event) -> None:
        with self._lock:
            received = self._open.pop(event.assoc, _Received())
        for images in received.images.values():
            self._studies.put(list(images.values()))

    def _answer_all(self) -> None:
        while (images := self._studies.get()) is not None:
            try:
                report = self._waiting(self._report, images)
                self._deliver(report)
                _LOG.info("a study of %d images: reported", len(images))
            except CovidmmError as error:
                _LOG.error("a study of %d images: no report: %s", len(images), error)
            except CancelledError:
                _LOG.error("a study of %d images: no report: the server stops", len(images))
            except Exception as error:  # the next study is answered in any case; a message may quote the file
                _LOG.error("a study of %d images: no report: %s", len(images), type(error).__name__)
            finally:
                with self._lock:
                    self._held -= sum(len(upload.content) for upload, _ in images)

    def _waiting(self, job: Callable, *arguments: Any) -> Any:
        """The result of a job; waits while the queue is full, for what was received must be answered."""
        while True:
            try:
                return self.jobs.submit(job, *arguments).result()
            except QueueFullError as full:
                time.sleep(full.retry_after)

    def _report(self, images: list[tuple[Upload, Radiograph]]) -> bytes:
        uploads, radiographs = zip(*images, strict=True)
        return self.service.report(Question(), radiographs, uploads, self.settings.threshold)

    def _deliver(self, content: bytes) -> None:
        report = pydicom.dcmread(io.BytesIO(content))
        if self.settings.folder is not None:
            self.settings.folder.mkdir(parents=True, exist_ok=True)
            write_bytes(self.settings.folder / f"{report.SOPInstanceUID}.dcm", content)
        if self.settings.peer is not None:
            send(report, self.settings.peer, self.settings.title)


def send(report: Any, peer: Peer, title: str) -> None:
    """Send a report to a peer.

    Raises:
        CovidmmError: the peer cannot be reached, or does not take it.
    """
    entity = AE(title)
    entity.add_requested_context(report.SOPClassUID)
    association = entity.associate(peer.host, peer.port, ae_title=peer.title)
    if not association.is_established:
        raise CovidmmError(f"{peer.host}:{peer.port}: no association with {peer.title}")
    try:
        status = association.send_c_store(report)
    finally:
        association.release()
    if not status or status.Status != STORED:
        shown = f"status {status.Status:#06x}" if status else "no answer"
        raise CovidmmError(f"{peer.host}:{peer.port}: {peer.title} did not take the report: {shown}")
