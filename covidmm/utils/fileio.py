"""Write files whole or not at all, and read and write JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from covidmm.errors import ConfigError

_PART = 1 << 20


def write_bytes(path: Path, data: bytes, durable: bool = False) -> None:
    """Write ``data`` to ``path`` in one step: a reader sees the old file or the new one, never a part.

    The bytes go to ``<path>.tmp`` first. A process killed there leaves that file behind, and the next
    writing of the same path takes its place.

    Args:
        path: the file.
        data: its content.
        durable: have the bytes on the drive before they get their name, so that this holds after a power cut, too.

    Raises:
        OSError: no space, no permission, ...; ``path`` is then as it was and no ``.tmp`` file is left.
    """
    with _in_place_of(path) as temporary:
        temporary.write_bytes(data)
        if durable:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())


@contextmanager
def whole_file(path: Path, keep_equal: bool = False) -> Iterator[BinaryIO]:
    """A file to write part by part; it takes its name at the end of the block, as with :func:`write_bytes`.

    Args:
        path: the file.
        keep_equal: leave a file which already holds the same untouched.
    """
    with _in_place_of(path, keep_equal) as temporary, temporary.open("wb") as file:
        yield file


@contextmanager
def _in_place_of(path: Path, keep_equal: bool = False) -> Iterator[Path]:
    temporary = path.with_name(path.name + ".tmp")
    try:
        with naming(path):
            yield temporary
            if keep_equal and same_content(path, temporary):
                temporary.unlink()
            else:
                temporary.replace(path)
    except BaseException:
        with suppress(OSError):  # the first error is the cause
            temporary.unlink(missing_ok=True)
        raise


def append(file: BinaryIO, path: Path, data: bytes) -> None:
    """Append all of ``data`` to an unbuffered file; on a full disk ``write`` alone writes a part and raises nothing.

    Raises:
        OSError: no space, ...; a part may be in the file.
    """
    rest = memoryview(data)
    with naming(path):
        while rest:
            rest = rest[file.write(rest) :]


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put a file's name into an error of the operating system, which lacks it on a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def json_bytes(value: Any, indent: int | None = None) -> bytes:
    """``value`` as JSON, the same bytes each time; a file name that is no UTF-8 is read back as it was.

    Raises:
        ValueError: it holds a NaN or an infinity, which JSON does not have.
    """
    separators = (",", ":") if indent is None else None
    text = json.dumps(value, ensure_ascii=False, indent=indent, separators=separators, allow_nan=False)
    return (text + "\n").encode(errors="backslashreplace")  # \udcff is how JSON writes a lone surrogate


def json_value(text: str | bytes) -> Any:
    """Parse JSON from an untrusted file.

    Raises:
        ValueError: no JSON, or nested too deeply for Python.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def require_output(path: str | Path, option: str, folder: bool = False) -> None:
    """Refuse, before the work, a path that nothing can be written to.

    Args:
        path: a file, or a folder that files go to; neither needs to exist.
        option: names it in messages.
        folder: whether it is a folder.

    Raises:
        ConfigError: it is of the other kind, or below a file, or in a folder that may not be written to.
    """
    path = Path(path).expanduser()
    if path.exists() and not (path.is_dir() if folder else path.is_file()):
        what = "folder; name the file to write" if path.is_dir() else "file; name a folder" if folder else "device"
        raise ConfigError(f"{option} {path}: is a {what}")
    above = (path / "any" if folder else path).absolute().parents
    parent = next(one for one in above if one.exists())
    if not parent.is_dir():
        raise ConfigError(f"{option} {path}: cannot be written, {parent} is not a folder")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise ConfigError(f"{option} {path}: cannot be written, {parent} may not be written to")


def same_content(one: Path, other: Path) -> bool:
    """Whether both files are there and hold the same bytes; read in parts."""
    if not (one.exists() and other.exists()) or one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as first, other.open("rb") as second:
        while part := first.read(_PART):
            if part != second.read(_PART):
                return False
    return True


def write_if_changed(path: Path, data: bytes) -> None:
    """:func:`write_bytes` that leaves a file which already holds ``data`` untouched."""
    if not path.exists() or path.read_bytes() != data:
        write_bytes(path, data)
