"""Limits of size and kind that a file must keep before it is read."""

from __future__ import annotations

import io
import os
import stat
import zlib
from pathlib import Path

#: No radiograph's file is larger, packed or unpacked. Chosen here: twice what the most pixels of 16 bits need.
MAX_BYTES = 2**29

_CHUNK = 2**20


class BoundedFile(io.BufferedReader):
    """A file of which no read allocates more memory than the rest of the file needs.

    Python allocates as many bytes as are asked for before it reads, and a DICOM element or a chunk of a PNG may claim
    to have 4 GB.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(str(path)))  # decoders put its name together with other text
        self._bytes = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        """The next ``size`` bytes, or what there is."""
        if size is not None and size > _CHUNK:
            size = max(0, min(size, self._bytes - self.tell()))
        return super().read(size)


def require_file(path: Path) -> None:
    """Refuse what is not a regular file before it is opened: reading a pipe would block, a device never ends."""
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise ValueError("is a folder, not a file")
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("is not a regular file")
    if not status.st_size:
        raise ValueError("is empty")
    if status.st_size > MAX_BYTES:
        raise ValueError(f"has {status.st_size:,} bytes, more than the {MAX_BYTES:,} that are allowed")


def require_deflated_size(path: Path) -> None:
    """Unpack a deflated file once into nothing: pydicom would unpack it into memory, whatever it grows to."""
    from pydicom.filereader import _read_file_meta_info, read_preamble
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    with BoundedFile(path) as file:
        read_preamble(file, force=True)
        # the very function that decides whether pydicom unpacks
        if _read_file_meta_info(file).get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
            return
        unpacker, unpacked, packed = zlib.decompressobj(-zlib.MAX_WBITS), 0, b""
        while packed := packed or file.read(_CHUNK):
            unpacked += len(unpacker.decompress(packed, _CHUNK))
            packed = unpacker.unconsumed_tail
            if unpacked > MAX_BYTES:
                raise ValueError(f"unpacks to more than the {MAX_BYTES:,} bytes that are allowed")
