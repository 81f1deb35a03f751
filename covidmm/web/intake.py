"""What peers send to a DICOM node, bounded while it arrives: nothing is held that would be refused."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from pynetdicom import evt
from pynetdicom.events import Event

_LOG = logging.getLogger("covidmm.web.dicom")
#: Statuses of C-STORE (PS3.4, table B.2-1).
STORED, OUT_OF_RESOURCES, DOES_NOT_MATCH, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xA900, 0xC000
#: One PDU; 64 times what the node announces. Chosen here.
MAX_PDU_BYTES = 2**20
#: The command set of a message; real ones have some hundreds of bytes. Chosen here.
_MAX_COMMAND_BYTES = 2**16
#: How many times the largest object a peer may send of one that is refused, before its association is aborted: until
#: then it is read and dropped, so that the peer gets a status. Chosen here.
_DRAINED = 16
#: A-ABORT by the service provider, 'invalid PDU parameter value' (PS3.8, 9.3.8).
_ABORT = bytes([7, 0, 0, 0, 0, 4, 0, 0, 2, 6])
#: PDU types (PS3.8, 9.3.1).
_P_DATA, _RELEASE_REQUEST = 4, 5


@dataclass
class _Sender:
    """One association: bytes of the message that is arriving, whether they are dropped, and whose images came."""

    incoming: int = 0
    dropped: bool = False
    released: bool = False
    studies: set[str] = field(default_factory=set)


class Intake:
    """Counts what all associations send.

    Args:
        object_bytes: the largest object; of a larger one nothing more is held than this.
        has_room: whether so many bytes, of all objects that are arriving, can be held.
        ended_early: gets the studies of an association that ended without being released.
    """

    def __init__(
        self, object_bytes: int, has_room: Callable[[int], bool], ended_early: Callable[[Iterable[str]], None]
    ) -> None:
        self.object_bytes, self._has_room, self._ended_early = object_bytes, has_room, ended_early
        self._lock = threading.Lock()
        self._senders: dict[Any, _Sender] = {}
        self.handlers: list[tuple[Any, Callable]] = [
            (evt.EVT_CONN_OPEN, self._opened),
            (evt.EVT_DATA_RECV, self._arrived),
            (evt.EVT_DIMSE_RECV, self._complete),
            (evt.EVT_CONN_CLOSE, self._ended),
        ]

    def refused(self, association: Any) -> bool:
        """Whether the object that came last was too large, or there was no room for it."""
        with self._lock:
            return self._sender(association).dropped

    def handled(self, association: Any, study: str | None = None) -> None:
        """The object that came last is held no more here; it was of this study where it was taken."""
        with self._lock:
            sender = self._sender(association)
            sender.incoming, sender.dropped = 0, False
            if study is not None:
                sender.studies.add(study)

    def _sender(self, association: Any) -> _Sender:
        return self._senders.get(association, _Sender())

    def _opened(self, event: Event) -> None:
        with self._lock:
            self._senders[event.assoc] = _Sender()
        wrapped = event.assoc.dul.socket
        receive = wrapped.recv

        def bounded(size: int) -> bytearray:
            """A PDU is read whole before any event: it must be refused by the length that it declares."""
            if size > MAX_PDU_BYTES:
                _LOG.warning("a PDU of %d bytes was announced, association aborted", size)
                wrapped.send(_ABORT)
                raise ConnectionAbortedError("PDU too long")
            return receive(size)

        wrapped.recv = bounded

    def _arrived(self, event: Event) -> None:
        """A PDU came; what is too much is dropped from the message under way, which this very thread puts together."""
        kind, size = event.data[0], len(event.data)
        with self._lock:
            sender = self._sender(event.assoc)
            sender.released |= kind == _RELEASE_REQUEST
            if kind != _P_DATA:
                return
            sender.incoming += size
            total = sum(min(one.incoming, self.object_bytes) for one in self._senders.values() if not one.dropped)
        too_large = sender.incoming > self.object_bytes
        if not sender.dropped and (too_large or not self._has_room(total)):
            sender.dropped = True
            _LOG.warning(
                "an object of more than %d bytes" if too_large else "no room for an object of %d bytes or more",
                self.object_bytes if too_large else sender.incoming,
            )
        message = event.assoc.dimse.message
        if sender.dropped and message is not None:
            message.data_set.seek(0)
            message.data_set.truncate()
        endless = message is not None and message.encoded_command_set.tell() > _MAX_COMMAND_BYTES
        if endless or sender.incoming > _DRAINED * self.object_bytes:
            _LOG.warning("more than can be refused by a status, association aborted")
            event.assoc.abort()

    def _complete(self, event: Event) -> None:
        """Asynchronous operations are not negotiated: a peer that does not wait for answers could fill the queue."""
        if event.assoc.dimse.msg_queue.qsize():
            _LOG.warning("messages that do not wait for answers, association aborted")
            event.assoc.abort()

    def _ended(self, event: Event) -> None:
        with self._lock:
            sender = self._senders.pop(event.assoc, _Sender())
        if not sender.released and sender.studies:
            _LOG.warning("an association ended early; what it sent is kept with what comes later")
            self._ended_early(sender.studies)
