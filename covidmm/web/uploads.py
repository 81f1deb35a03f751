"""Uploaded files: kept in memory, never written to disk, counted while they arrive."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import PurePosixPath

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from covidmm.web.problems import CLIENT_LEFT, ProblemError

# python-multipart logs what it cannot parse; the client gets a problem of one sentence
logging.getLogger("python_multipart").addHandler(logging.NullHandler())

_FIELD = "files"
#: How long the rest of a refused upload is read. Chosen here: a gigabyte on a local network.
_DRAIN_SECONDS = 10.0


@dataclass(frozen=True)
class Limits:
    """Limits of uploads. All chosen here.

    Attributes:
        request_bytes: one request; a DICOM of 4000 x 4000 pixels of 16 bits has 32 MB.
        total_bytes: all requests that are being received or wait.
        files: in one request.
        seconds: in which a request must arrive.
    """

    request_bytes: int = 128 * 2**20
    total_bytes: int = 512 * 2**20
    files: int = 8
    seconds: float = 60.0


@dataclass(frozen=True)
class Upload:
    """One file: its name in error messages, and its bytes."""

    name: str
    content: bytes


class _MemoryParser(MultiPartParser):
    # Starlette's parser moves files above this size to a temporary file
    spool_max_size = sys.maxsize


class Receiver:
    """Counts the bytes of all requests against common limits."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.held = 0

    @contextmanager
    def incoming(self) -> Iterator[Incoming]:
        """A request that sends files; its bytes count until the end of the block."""
        incoming = Incoming(self)
        try:
            yield incoming
        finally:
            self.held -= incoming.size

    def take(self, count: int) -> None:
        """Count bytes of a request.

        Raises:
            ProblemError: the server holds too many bytes already.
        """
        if self.held + count > self.limits.total_bytes:
            raise ProblemError(503, "The server is receiving too many files; try again shortly.", {"Retry-After": "5"})
        self.held += count


class Incoming:
    """One request that sends files, and how many bytes it has sent so far."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.size = 0
        self._more = True  # of the body to come

    def add(self, count: int) -> None:
        """Count more bytes.

        Raises:
            ProblemError: the request, or all together, are too large.
        """
        if self.size + count > self.receiver.limits.request_bytes:
            raise _too_large(self.receiver.limits)
        self.receiver.take(count)
        self.size += count

    async def receive(self, request: Request) -> list[Upload]:
        """The files in the field ``files`` of a multipart request, at least one.

        Raises:
            ProblemError: the request is of another form, too large, too slow, or incomplete.
        """
        try:
            return await self._receive(request)
        except ProblemError as problem:
            if problem.status in (413, 503):
                await self._drain(request)
            raise

    async def _receive(self, request: Request) -> list[Upload]:
        limits = self.receiver.limits
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "multipart/form-data":
            raise ProblemError(415, f"Send multipart/form-data with one or more files in the field '{_FIELD}'.")
        declared = request.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > limits.request_bytes:
            raise ProblemError(
                413, f"The upload is larger than {limits.request_bytes // 2**20} MB.", {"Connection": "close"}
            )
        parser = _MemoryParser(request.headers, self._counted(request), max_files=limits.files, max_fields=16)
        try:
            form = await asyncio.wait_for(parser.parse(), limits.seconds)
        except asyncio.TimeoutError:
            message = f"The upload did not arrive within {limits.seconds:g} s."
            raise ProblemError(408, message, {"Connection": "close"}) from None
        except ClientDisconnect:
            raise ProblemError(CLIENT_LEFT, "The client left.") from None
        except MultiPartException as error:
            raise ProblemError(400, f"The multipart body is broken: {error.message.rstrip('.')}.") from None
        try:
            return await _uploads(form.multi_items())
        finally:
            await form.close()

    async def _counted(self, request: Request) -> AsyncGenerator[bytes, None]:
        async for chunk in self._chunks(request):
            self.add(len(chunk))
            yield chunk

    async def _chunks(self, request: Request) -> AsyncGenerator[bytes, None]:
        while self._more:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            self._more = message.get("more_body", False)
            yield message.get("body", b"")

    async def _drain(self, request: Request) -> None:
        """Read on for a while: a client whose connection is closed while it sends would not see the answer."""
        if "expect" in request.headers:  # it has not begun to send
            return

        async def read() -> None:
            async for _ in self._chunks(request):
                pass

        with suppress(asyncio.TimeoutError, ClientDisconnect):
            await asyncio.wait_for(read(), _DRAIN_SECONDS)


def _too_large(limits: Limits) -> ProblemError:
    return ProblemError(413, f"The upload is larger than {limits.request_bytes // 2**20} MB.", {"Connection": "close"})


async def _uploads(items: list[tuple[str, UploadFile | str]]) -> list[Upload]:
    for field, value in items:
        if field != _FIELD or isinstance(value, str):
            raise ProblemError(422, f"Only files in the field '{_FIELD}' are taken, options belong into the address.")
    if not items:
        raise ProblemError(422, f"There is no file; send one or more in the field '{_FIELD}'.")
    found = []
    for number, (_, file) in enumerate(items, 1):
        upload = Upload(f"file {number} ({plain_name(file.filename)})", await file.read())
        if not upload.content:
            raise ProblemError(422, f"{upload.name}: is empty")
        found.append(upload)
    return found


def plain_name(name: str | None) -> str:
    """The last part of a file name, printable and short, for messages; never used as a path."""
    last = PurePosixPath((name or "").replace("\\", "/")).name
    cleaned = re.sub(r"[^\w .()\-]", "_", last).strip()
    return (cleaned[:57] + "...") if len(cleaned) > 60 else cleaned or "no name"
