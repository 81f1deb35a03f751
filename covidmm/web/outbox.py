"""Reports on their way to a folder and to an archive: what did not arrive is kept and tried again."""

from __future__ import annotations

import io
import logging
import math
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pynetdicom import AE

from covidmm.errors import ConfigError, CovidmmError
from covidmm.utils.fileio import write_bytes

_LOG = logging.getLogger("covidmm.web.dicom")
#: In the folder of the reports: those that the archive has not accepted yet.
UNSENT = "unsent"
#: Reports that wait in memory, where there is no folder or it cannot be written. Chosen here.
_MOST_WAITING = 1000
#: Longest time between two attempts, in seconds; it doubles until then. Chosen here.
_LONGEST_PAUSE = 600.0
#: For each step of an association, in seconds. Chosen here.
_PATIENCE = 30.0
_DUPLICATE = 0x0111


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
        if not (host and valid_title(title) and port.isdecimal() and 0 < int(port) < 2**16):
            raise ConfigError(
                f"'{text}' is no peer: expected host:port:TITLE, with a title of 1 to 16 printable ASCII characters "
                "without backslash"
            )
        return cls(host, int(port), title)


def valid_title(text: str) -> bool:
    """Whether it can be the title of an application entity (PS3.5, AE): 1 to 16 printable ASCII, no backslash."""
    plain = text.isascii() and text.isprintable() and "\\" not in text
    return plain and bool(text.strip()) and len(text) <= 16


@dataclass
class _Parcel:
    """A report under way: its file, what is still to be done, and when it is tried again."""

    uid: str
    content: bytes | None
    store: bool
    send: bool
    failures: int = 0
    due: float = 0.0


class Outbox:
    """Stores reports in a folder and sends them to a peer, in a thread of its own.

    A report that cannot be stored or sent is said, kept and tried again. With a folder it waits on disk, and a node
    that is started again sends it; without one it waits in memory.

    Args:
        folder: where reports are stored, or None.
        peer: where they are sent, or None.
        title: of the own application entity.
        pause: seconds before the second attempt; each further pause is twice as long, up to ten minutes.
    """

    def __init__(self, folder: Path | None, peer: Peer | None, title: str, pause: float) -> None:
        self.folder, self.peer, self.title, self.pause = folder, peer, title, pause
        self._changed = threading.Condition()
        self._closed, self._end = False, math.inf
        self._parcels = self._unsent()
        if self._parcels:
            _LOG.info("%d reports of an earlier run are to be sent", len(self._parcels))
        self._thread = threading.Thread(target=self._work, name="dicom-outbox", daemon=True)
        self._thread.start()

    def put(self, uid: str, content: bytes) -> None:
        """Take a report, the file and its SOP Instance UID."""
        with self._changed:
            self._parcels.append(_Parcel(uid, content, self.folder is not None, self.peer is not None))
            if len(self._parcels) > _MOST_WAITING:
                self._parcels.pop(0)
                _LOG.error("more than %d reports wait: the oldest is no longer tried again", _MOST_WAITING)
            self._changed.notify_all()

    def close(self) -> None:
        """Try once more what is left, and say what did not arrive."""
        with self._changed:
            self._closed, self._end = True, time.monotonic() + _PATIENCE
            self._changed.notify_all()
        self._thread.join()
        left = len(self._parcels)
        kept = sum(self._on_disk(one) for one in self._parcels)
        if kept:
            _LOG.error("%d reports were not sent; they are kept in '%s' and sent by the next run", kept, UNSENT)
        if left > kept:
            _LOG.error("%d reports were not delivered and are lost; --sr-dir keeps what cannot be sent", left - kept)

    def _work(self) -> None:
        tried: set[int] = set()  # since the end began, each once
        while True:
            with self._changed:
                parcel = self._next(tried)
                if parcel is None:
                    return
                if self._closed:
                    tried.add(id(parcel))
            try:
                self._deliver(parcel)
            except Exception as error:  # the next report is delivered in any case
                self._failed(parcel, error)
            else:
                with self._changed:
                    self._parcels = [one for one in self._parcels if one is not parcel]

    def _next(self, tried: set[int]) -> _Parcel | None:
        """The parcel that is due first; waits for it. None at the end."""
        while True:
            waiting = [one for one in self._parcels if id(one) not in tried and not (one.failures and self._late())]
            if not waiting and self._closed:
                return None
            first = min(waiting, key=lambda one: one.due, default=None)
            left = None if first is None else first.due - time.monotonic()
            if first is not None and (self._closed or (left is not None and left <= 0)):
                return first
            self._changed.wait(left)

    def _late(self) -> bool:
        """Whether the end takes too long to try again what failed before."""
        return time.monotonic() > self._end

    def _deliver(self, parcel: _Parcel) -> None:
        if parcel.store and self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_bytes(self.folder / f"{parcel.uid}.dcm", parcel.content or b"")
            parcel.store = False
        if parcel.send and self.peer is not None:
            content = parcel.content if parcel.content is not None else self._waiting(parcel).read_bytes()
            send(pydicom.dcmread(io.BytesIO(content)), self.peer, self.title)
            parcel.send = False
            if self.folder is not None:
                self._waiting(parcel).unlink(missing_ok=True)

    def _failed(self, parcel: _Parcel, error: Exception) -> None:
        pause = min(self.pause * 2**parcel.failures, _LONGEST_PAUSE)
        parcel.failures += 1
        parcel.due = time.monotonic() + pause
        if not parcel.store and self.folder is not None and parcel.content is not None:
            with suppress(OSError):  # it waits in memory then
                self._waiting(parcel).parent.mkdir(exist_ok=True)
                write_bytes(self._waiting(parcel), parcel.content)
                parcel.content = None
        if self._closed and parcel.failures > 1:
            return  # its cause was said before, and close() counts it
        if isinstance(error, CovidmmError):
            cause = str(error)
        else:  # a message may quote the report
            cause = getattr(error, "strerror", None) or type(error).__name__
        again = "" if self._closed else f"; it is kept, and tried again in {pause:g} s"
        _LOG.error("a report was not %s, no report: %s%s", "stored" if parcel.store else "sent", cause, again)

    def _waiting(self, parcel: _Parcel) -> Path:
        return Path(self.folder or "") / UNSENT / f"{parcel.uid}.dcm"

    def _on_disk(self, parcel: _Parcel) -> bool:
        return self.folder is not None and not parcel.store and parcel.content is None

    def _unsent(self) -> list[_Parcel]:
        """The reports that an earlier run left to be sent."""
        if self.folder is None or self.peer is None:
            return []
        files = sorted((self.folder / UNSENT).glob("*.dcm"))
        return [_Parcel(file.stem, None, False, True) for file in files[:_MOST_WAITING]]


def send(report: Any, peer: Peer, title: str) -> None:
    """Send a report to a peer.

    Raises:
        CovidmmError: the peer cannot be reached, or does not take it.
    """
    entity = AE(title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = _PATIENCE
    entity.add_requested_context(report.SOPClassUID)
    where = f"{peer.host}:{peer.port}"
    association = entity.associate(peer.host, peer.port, ae_title=peer.title)
    if not association.is_established:
        raise CovidmmError(f"{where}: no association with {peer.title}")
    try:
        status = association.send_c_store(report)
    except (ValueError, RuntimeError):  # no context was accepted, or the association ended
        raise CovidmmError(f"{where}: {peer.title} does not take Structured Reports") from None
    finally:
        association.release()
    if not status or not accepted(status.Status):
        shown = f"status {status.Status:#06x}" if status else "no answer"
        raise CovidmmError(f"{where}: {peer.title} did not take the report: {shown}")


def accepted(status: int) -> bool:
    """Whether a status of C-STORE means that the peer has the object: success, a warning, or that it had it before."""
    return status in (0x0000, _DUPLICATE) or 0xB000 <= status <= 0xBFFF
