"""Decodes files in a child process, so that a crash of a decoder ends the child and not the caller.

The child has limits of memory and time, gets the bytes through a pipe, never writes to disk, and answers with JSON
and grey values: nothing that it sends is unpickled.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import struct
import subprocess
import sys
import threading
import time
from functools import cache
from pathlib import Path
from typing import IO, Any

import numpy as np
from typing_extensions import Self

from covidmm import radiograph
from covidmm.errors import RadiographError
from covidmm.radiograph import Header, Radiograph
from covidmm.radiograph.codecs import needs_codec

#: For one file; real radiographs take well under a second. Chosen here.
DECODE_SECONDS = 60.0
#: Address space of the decoder: a radiograph of 2**27 pixels, the most that is read, needs about half of it.
DECODE_BYTES = 4 * 2**30

_LENGTH = struct.Struct("<Q")
_CHUNK = 1 << 16


class IsolatedReader:
    """Decodes one file at a time in a child that is replaced when it dies. Safe to share between threads.

    Args:
        timeout_s: seconds that one file may take.
        memory_bytes: address space of the child.
    """

    def __init__(self, timeout_s: float, memory_bytes: int) -> None:
        self.timeout_s, self.memory_bytes = timeout_s, memory_bytes
        self._lock = threading.Lock()
        self._child: subprocess.Popen | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, content: bytes, name: str) -> Radiograph:
        """Decode one DICOM, PNG, JPEG or TIFF file.

        Args:
            content: the file.
            name: what it is called in errors.

        Raises:
            RadiographError: it cannot be read, takes too long or too much memory, or ended the decoder.
        """
        with self._lock:
            try:
                return self._ask(content, name)
            except RadiographError:  # the child's answer, and the end of it
                raise
            except TimeoutError:
                self._kill()
                raise RadiographError(f"{name}: takes longer than {self.timeout_s:g} s to decode") from None
            except (BrokenPipeError, EOFError):
                self._kill()
                raise RadiographError(f"{name}: ended its decoder, a damaged or malicious file") from None
            except BaseException:  # the child may be in the middle of an answer
                self._kill()
                raise

    def close(self) -> None:
        """End the child."""
        with self._lock:
            self._kill()

    def _ask(self, content: bytes, name: str) -> Radiograph:
        child = self._child = self._child or self._start()
        deadline = time.monotonic() + self.timeout_s
        _send(child.stdin, _LENGTH.pack(len(content)) + content, deadline)
        head = json.loads(_receive(child.stdout, _LENGTH.unpack(_receive(child.stdout, 8, deadline))[0], deadline))
        if "error" in head:
            raise RadiographError(f"{name}: {head['error']}")
        shape = tuple(head["shape"])
        pixels = np.frombuffer(_receive(child.stdout, int(np.prod(shape)), deadline), np.uint8).reshape(shape)
        pixels.setflags(write=False)
        return Radiograph(Header.from_json(Path(name), head["header"]), pixels, tuple(head["notes"]))

    def _start(self) -> subprocess.Popen:
        child = subprocess.Popen(
            [sys.executable, "-m", "covidmm.radiograph.sandbox", str(self.memory_bytes)],
            cwd=Path(__file__).parents[2],  # -m imports from the current folder first, which may be one of data
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # warnings of decoders may quote headers
            bufsize=0,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])},
            start_new_session=True,  # ctrl-C is for the server
        )
        for pipe in (child.stdin, child.stdout):
            os.set_blocking(pipe.fileno(), False)
        return child

    def _kill(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None


def read(path: str | Path) -> Radiograph:
    """Read one radiograph as :func:`covidmm.radiograph.read` does; a fault of a codec costs no more than that file.

    A DICOM file whose pixels are compressed is decoded in a child, which the files of this process share. Others need
    no codec but Pillow's. On systems without Linux' files in memory all are decoded in this process.

    Raises:
        RadiographError: as :func:`covidmm.radiograph.read`, or it took too long or too much memory, or ended the child.
    """
    path = Path(path)
    if not hasattr(os, "memfd_create") or not _is_compressed(path):
        return radiograph.read(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RadiographError(f"{path}: cannot be read: {error.strerror or error}") from error
    return _shared().read(content, str(path))


def _is_compressed(path: Path) -> bool:
    try:
        return needs_codec(radiograph.read_header(path).transfer_syntax)
    except RadiographError:  # no decoder gets to see it
        return False


@cache
def _shared() -> IsolatedReader:
    reader = IsolatedReader(DECODE_SECONDS, DECODE_BYTES)
    atexit.register(reader.close)
    return reader


def _send(pipe: IO[bytes], data: bytes, deadline: float) -> None:
    view = memoryview(data)
    while view:
        if not select.select([], [pipe], [], max(0, deadline - time.monotonic()))[1]:
            raise TimeoutError
        view = view[os.write(pipe.fileno(), view[:_CHUNK]) :]


def _receive(pipe: IO[bytes], size: int, deadline: float) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        if not select.select([pipe], [], [], max(0, deadline - time.monotonic()))[0]:
            raise TimeoutError
        count = os.readv(pipe.fileno(), [view])
        if not count:
            raise EOFError
        view = view[count:]
    return data


def _child(memory_bytes: int) -> None:
    import resource  # not on Windows, where this module can be imported

    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a dump of memory would be a copy on disk
    source, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # decoders that print do not spoil the answers
    while head := source.read(8):
        content = source.read(_LENGTH.unpack(head)[0])
        found, pixels = _decoded(content)
        text = json.dumps(found).encode()
        answers.write(_LENGTH.pack(len(text)) + text + pixels)
        answers.flush()


def _decoded(content: bytes) -> tuple[dict[str, Any], bytes]:
    memory = os.memfd_create("radiograph")
    path = f"/proc/self/fd/{memory}"
    try:
        with os.fdopen(memory, "wb") as file:
            file.write(content)
            file.flush()
            found = radiograph.read(path)
        return {
            "header": found.header.to_json(),
            "shape": found.pixels.shape,
            "notes": found.notes,
        }, found.pixels.tobytes()
    except RadiographError as error:
        return {"error": str(error).removeprefix(f"{path}: ")}, b""
    except MemoryError:
        return {"error": "does not fit into memory"}, b""


if __name__ == "__main__":
    _child(int(sys.argv[1]))
