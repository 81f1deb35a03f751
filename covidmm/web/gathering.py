"""Images that a DICOM node receives, in memory, gathered by study until none has come for a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from pydicom import Dataset

from covidmm.radiograph import Radiograph

#: Of a header and what belongs to it without its values, in bytes. Chosen here.
_HEADER_BYTES = 8192
#: Studies whose reports are known by name after their images were forgotten. Chosen here.
_REMEMBERED = 10_000
_EARLY_END = "an association that sent images of this study ended early: images may be missing"
_OTHER_CONTENT = "an image was sent more than once with different contents: the last is taken"
_FORGOTTEN = "images of this study that came before are no longer held: they are in the report {} alone"


@dataclass(frozen=True)
class Received:
    """One image: the header as a report needs it, the pixels as the models see them, and a hash of the object."""

    header: Dataset
    radiograph: Radiograph
    digest: bytes

    @cached_property
    def held(self) -> int:
        """Bytes of memory, about; of a header whose values nobody bounds, too."""
        values = sum(len(one.value) for one in self.header.values() if isinstance(one.value, bytes | str))
        return self.radiograph.pixels.nbytes + _HEADER_BYTES + values


@dataclass(frozen=True)
class Batch:
    """A study that is to be reported.

    Attributes:
        study: its UID.
        images: all that have come, also those that were reported before.
        notes: for the report.
        former: the report that a new one replaces, or None.
        content: the file of the former report where it says all there is to say already: the same images came again.
    """

    study: str
    images: list[Received]
    notes: list[str]
    former: Dataset | None = None
    content: bytes | None = None


@dataclass
class _Study:
    """One study.

    Attributes:
        images: by SOP Instance UID, in the order of their arrival.
        notes: each once, in order.
        waiting: whether images came since the last report.
        grown: whether these are others than those of the last report.
        busy: whether its report is being made.
        last: when something came.
        former: the last report, its UIDs alone.
        content: the file of the last report.
    """

    images: dict[str, Received] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)
    waiting: bool = False
    grown: bool = False
    busy: bool = False
    last: float = 0.0
    former: Dataset | None = None
    content: bytes | None = None


class Gathering:
    """Studies that wait for more images, and those that were reported, as long as there is room for them.

    Args:
        seconds: without an image after which a study is reported.
        limit: bytes of memory that all images may hold.
    """

    def __init__(self, seconds: float, limit: int) -> None:
        self.seconds, self.limit = seconds, limit
        self._changed = threading.Condition()
        self._studies: dict[str, _Study] = {}
        self._forgotten: dict[str, str] = {}
        self._held = 0
        self._closed = False

    def has_room(self, size: int) -> bool:
        """Whether so many bytes more can be held; studies that were reported longest ago are forgotten for them."""
        with self._changed:
            if self._held + size > self.limit:
                done = [name for name, one in self._studies.items() if not (one.waiting or one.busy)]
                for name in sorted(done, key=lambda name: self._studies[name].last):
                    self._forget(name)
                    if self._held + size <= self.limit:
                        break
            return not self._closed and self._held + size <= self.limit

    def add(self, study: str, image: str, received: Received) -> bool:
        """Take an image, unless there is no room for it."""
        with self._changed:
            if not self.has_room(received.held):
                return False
            found = self._studies.setdefault(study, _Study())
            known = found.images.get(image)
            if known is not None and known.digest != received.digest:
                found.notes[_OTHER_CONTENT] = None
            found.grown |= known is None or known.digest != received.digest
            self._held += received.held - (known.held if known else 0)
            found.images[image] = received
            if study in self._forgotten:
                found.notes[_FORGOTTEN.format(self._forgotten[study])] = None
            found.waiting, found.last = True, time.monotonic()
            self._changed.notify_all()
            return True

    def ended_early(self, studies: Iterable[str]) -> None:
        """Note that an association which sent images of these studies was not released."""
        with self._changed:
            for study in studies:
                if study in self._studies and self._studies[study].waiting:
                    self._studies[study].notes[_EARLY_END] = None

    def due(self) -> Batch | None:
        """The next study of which no image has come for the time; waits for it. None after the last, once closed."""
        with self._changed:
            while True:
                waiting = [(one.last, name) for name, one in self._studies.items() if one.waiting and not one.busy]
                if not waiting:
                    if self._closed:
                        return None
                    self._changed.wait()
                    continue
                last, name = min(waiting)
                left = last + self.seconds - time.monotonic()
                if left <= 0 or self._closed:
                    return self._taken(name)
                self._changed.wait(left)

    def reported(self, batch: Batch, report: Dataset | None, content: bytes | None) -> None:
        """Say what became of a study: its report, or None where there is none; the images are kept for a larger one."""
        with self._changed:
            found = self._studies[batch.study]
            found.busy = False
            if report is None:
                found.grown = True
            else:
                self._held += len(content or b"") - len(found.content or b"")
                found.former, found.content = report, content
            self._changed.notify_all()

    def close(self) -> None:
        """Take nothing more; what has come is due at once."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _taken(self, name: str) -> Batch:
        found = self._studies[name]
        content = None if found.grown else found.content
        batch = Batch(name, list(found.images.values()), list(found.notes), found.former, content)
        found.waiting, found.grown, found.busy = False, False, True
        found.notes.pop(_EARLY_END, None)  # of what came until now
        return batch

    def _forget(self, name: str) -> None:
        found = self._studies.pop(name)
        self._held -= sum(one.held for one in found.images.values()) + len(found.content or b"")
        if found.former is not None:
            self._forgotten[name] = str(found.former.SOPInstanceUID)
            while len(self._forgotten) > _REMEMBERED:
                del self._forgotten[next(iter(self._forgotten))]
