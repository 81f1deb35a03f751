"""Files that appear whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` in one step: a reader sees the old file or the new one, never a part.

    The bytes go to ``<path>.tmp`` first. A process killed there leaves that file behind, and the next
    writing of the same path takes its place.

    Raises:
        OSError: no space, no permission, ...; ``path`` is then as it was and no ``.tmp`` file is left.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a full disk does not say which file it was
        raise


def json_bytes(value: Any, indent: int | None = None) -> bytes:
    """``value`` as JSON, the same bytes each time.

    Raises:
        ValueError: it holds a NaN or an infinity, which JSON does not have.
    """
    separators = (",", ":") if indent is None else None
    text = json.dumps(value, ensure_ascii=False, indent=indent, separators=separators, allow_nan=False)
    return (text + "\n").encode()


def write_if_changed(path: Path, data: bytes) -> None:
    """:func:`write_bytes` that leaves a file which already holds ``data`` untouched."""
    if not path.exists() or path.read_bytes() != data:
        write_bytes(path, data)
