"""Which kind of file is given as a checkpoint, by its first bytes; of those that are none, what to do with them."""

from __future__ import annotations

import shlex
import zipfile
from contextlib import suppress
from pathlib import Path

from covidmm.errors import CheckpointError

_ZIP = b"PK\x03\x04"
#: First bytes, or those of the names in a zip archive, and what to say.
_HEADS = (
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself; fetch it with `git lfs pull`"),
    (b"\x89HDF\r\n", "an HDF5 file, as Keras writes it; covidmm reads PyTorch's weights"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"\x93NUMPY", "a NumPy array, no state dict of names and tensors"),
    (b"7z\xbc\xaf", "a 7z archive; unpack it first"),
    (b"<!doctype html", "a web page, not the file itself; download it again"),
    (b"<html", "a web page, not the file itself; download it again"),
    (b"<?xml", "an XML file, such as OpenVINO's, no checkpoint; take the one that it was made of"),
)


def is_safetensors(path: Path) -> bool:
    """Whether a file is in the format of safetensors: a header of JSON behind its length in eight bytes."""
    with path.open("rb") as file:
        head = file.read(9)
    size = int.from_bytes(head[:8], "little")
    return head[8:] == b"{" and 2 <= size <= path.stat().st_size - 8


def require_checkpoint(path: Path) -> None:
    """Refuse a file that is known to be something else than a checkpoint.

    Raises:
        CheckpointError: says what it is, and which command or option takes it.
        OSError: the file may not be read.
    """
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        raise CheckpointError(f"{path}: refused, an empty file; was it copied to the end?")
    if what := _archive(path) if head.startswith(_ZIP) else _plain_file(path, head):
        raise CheckpointError(f"{path}: refused, {what}")


def _plain_file(path: Path, head: bytes) -> str | None:
    for start, what in _HEADS:
        if head.lower().startswith(start.lower()):
            return what
    # field 1 of ONNX's ModelProto, its version, then the name of the program that wrote it
    if path.suffix == ".onnx" or (head[:1] == b"\x08" and head[2:3] == b"\x12" and b"pytorch" in head):
        return (
            "an ONNX network, no checkpoint; a member of an ensemble takes it as "
            f"backend=dict(type='onnxruntime', file={str(path)!r}) beside the checkpoint that it was exported from"
        )
    return None


def _archive(path: Path) -> str | None:
    names: list[str] = []
    with suppress(zipfile.BadZipFile, OSError, ValueError, NotImplementedError), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any(name.endswith("/constants.pkl") for name in names):
        return (
            "a TorchScript program, not a training checkpoint; it can be read by running it alone: "
            f"`tools/convert_checkpoint.py plain {shlex.quote(str(path))} OUT.pth --trust-checkpoint`"
        )
    if names and all(name.endswith(".npy") for name in names):
        return "arrays of NumPy (.npz), no state dict of PyTorch"
    if names and not any(name.endswith("data.pkl") for name in names):
        return "a zip archive, not a training checkpoint; unpack it first"
    return None
